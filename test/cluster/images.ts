/**
 * Images without a registry: buildah makes them from Dockerfiles, as archives that containerd imports. The base that
 * Dockerfiles name by a build argument is made of Debian's packages.
 */
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { runCommand } from './machine.ts';
import { buildPrograms, cacheFolder, moduleFile, programPath, programVersion } from './programs.ts';

/** What holds a pod's namespaces: Kubernetes' own `pause`. */
export const PAUSE_IMAGE = 'localhost/pause:1';
export const COREDNS_IMAGE = 'localhost/coredns:1';
/** Debian bookworm, essential packages and apt: what `debian:12-slim` is, for Dockerfiles' build argument BASE. */
export const BASE_IMAGE = 'localhost/debian:12';
/** curl, nginx, dig, iperf3 and the like, for tests' pods. */
export const TOOLS_IMAGE = 'localhost/tcpcrypt-test-tools:1';
/** The tools, and the rule installers of Istio and of Linkerd. */
export const MESH_IMAGE = 'localhost/tcpcrypt-test-mesh:1';
export const PRODUCT_IMAGE = 'localhost/tcpcrypt:dev';
/** As images and Debian name them. */
export const ARCHITECTURES = ['amd64', 'arm64'] as const;
export type Architecture = (typeof ARCHITECTURES)[number];
const machineArchitecture: Architecture = process.arch === 'arm64' ? 'arm64' : 'amd64';
export const NEXT_TAG = 'next';
const NEXT_IMAGE = `localhost/tcpcrypt:${NEXT_TAG}`;

const repository = join(import.meta.dirname, '../..');
const BUILD_TIMEOUT_MS = 1_200_000;
/** Buildah's storage: ours alone. Not vfs, which copies the whole for each layer. */
const storage = (): string[] => [
  ...['--root', join(cacheFolder(), 'buildah'), '--runroot', '/run/tcpcrypt-buildah'],
  ...['--storage-driver', 'overlay'],
];

const buildah = (...args: string[]): string =>
  runCommand('nice', ['buildah', ...storage(), ...args], { timeoutMs: BUILD_TIMEOUT_MS }).stdout;

export interface ImageBuild {
  readonly tag: string;
  readonly context: string;
  /** Default: `Dockerfile` in the context. */
  readonly dockerfile?: string;
  readonly buildArgs?: Readonly<Record<string, string>>;
  /** Of everything in it; seconds since the epoch. */
  readonly timestamp?: number;
  /** Default: this machine's. */
  readonly architecture?: Architecture;
}

/**
 * Builds an image and writes it to `archive`, for `ctr images import` and `docker load`, unless it is there already.
 * By the image's id: somebody else may build another of the same name meanwhile.
 */
export function buildImage(build: ImageBuild, archive: string): void {
  const { tag, context, dockerfile = join(context, 'Dockerfile'), buildArgs = {}, timestamp = 0 } = build;
  const { architecture = machineArchitecture } = build;
  const args = Object.entries(buildArgs).flatMap(([name, value]) => ['--build-arg', `${name}=${value}`]);
  args.push(...authorities(), ...platform(architecture));
  const how = ['--isolation', 'chroot', '--layers', '--pull=never', '--timestamp', String(timestamp)];
  mkdirSync(dirname(archive), { recursive: true });
  const idFile = `${archive}.${process.pid}.id`;
  buildah('bud', ...how, ...args, '--iidfile', idFile, '--tag', tag, '--file', dockerfile, context);
  const id = readFileSync(idFile, 'utf8').trim();
  const written = `${archive}.id`;
  const isThere = existsSync(archive) && existsSync(written) && readFileSync(written, 'utf8').trim() === id;
  if (!isThere) exportImage(id, tag, archive);
  renameSync(idFile, written);
}

/** Debian 12's buildah takes bases for the image's platform, unless it is told which it builds on. */
function platform(architecture: Architecture): string[] {
  if (architecture === machineArchitecture) return [];
  const machine = `BUILDPLATFORM=linux/${machineArchitecture}`;
  return ['--platform', `linux/${architecture}`, '--build-arg', machine];
}

/** Where the network has certificate authorities of its own, npm in a build has to know them as npm here does. */
function authorities(): string[] {
  const bundle = process.env['NODE_EXTRA_CA_CERTS'];
  if (!bundle) return [];
  const inside = '/etc/ssl/extra-authorities.crt';
  return ['--volume', `${bundle}:${inside}:ro`, '--build-arg', `NODE_EXTRA_CA_CERTS=${inside}`];
}

function exportImage(id: string, tag: string, archive: string): void {
  const unfinished = `${archive}.${process.pid}`;
  buildah('push', '--quiet', id, `docker-archive:${unfinished}:${tag}`);
  renameSync(unfinished, archive);
}

/** An archive in the cache, keyed by what it is made of; `make` is called when it is not there. */
async function cached(name: string, key: string, make: (archive: string) => Promise<void>): Promise<string> {
  const folder = join(cacheFolder(), 'images');
  mkdirSync(folder, { recursive: true });
  const archive = join(folder, `${name}-${createHash('sha256').update(key).digest('hex').slice(0, 12)}.tar`);
  if (!existsSync(archive)) await make(archive);
  return archive;
}

/** Builds from a Dockerfile and files by name, in a context of their own. */
function buildWith(
  files: Readonly<Record<string, string>>,
  dockerfile: string,
  tag: string,
  archive: string,
): void {
  const context = mkdtempSync(join(tmpdir(), 'tcpcrypt-image-'));
  try {
    for (const [name, path] of Object.entries(files)) cpSync(path, join(context, name));
    writeFileSync(join(context, 'Dockerfile'), dockerfile);
    buildImage({ tag, context }, archive);
  } finally {
    rmSync(context, { recursive: true });
  }
}

/** An image of one static program. */
function programImage(tag: string, program: string, archive: string): void {
  buildWith({ program }, 'FROM scratch\nCOPY program /program\nENTRYPOINT ["/program"]\n', tag, archive);
}

export async function pauseImage(): Promise<string> {
  return cached('pause', programVersion('kubelet'), async (archive) => {
    const source = await moduleFile('kubelet', 'build/pause/linux/pause.c');
    const program = `${archive}.program`;
    runCommand('gcc', ['-Os', '-static', '-DVERSION=test', '-o', program, source]);
    programImage(PAUSE_IMAGE, program, archive);
    rmSync(program);
  });
}

export async function corednsImage(): Promise<string> {
  await buildPrograms(['coredns']);
  const program = programPath('coredns');
  return cached('coredns', program, async (archive) => programImage(COREDNS_IMAGE, program, archive));
}

/** As Debian's slim images have them: a half-written image is thrown away, and nobody reads manuals there. */
const DPKG_OPTIONS = [
  'force-unsafe-io',
  'path-exclude=/usr/share/man/*',
  'path-exclude=/usr/share/doc/*',
  'path-include=/usr/share/doc/*/copyright',
];

/** Makes `BASE_IMAGE` in buildah's storage. */
export async function baseImage(): Promise<void> {
  if (buildah('images', '--quiet', '--filter', `reference=${BASE_IMAGE}`) !== '') return;
  const folder = mkdtempSync(join(tmpdir(), 'tcpcrypt-base-'));
  try {
    const root = join(folder, 'root.tar');
    const how = ['--quiet', '--variant=apt', ...DPKG_OPTIONS.map((option) => `--dpkgopt=${option}`)];
    runCommand('nice', ['mmdebstrap', ...how, 'bookworm', root], { timeoutMs: BUILD_TIMEOUT_MS });
    writeFileSync(join(folder, 'Dockerfile'), 'FROM scratch\nADD root.tar /\nCMD ["bash"]\n');
    buildah('bud', '--layers', '--timestamp', '0', '--tag', BASE_IMAGE, folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/**
 * The product's own image, from its own Dockerfile; returns the archive. `$TCPCRYPT_IMAGE` names another archive to
 * test, whose image has the same name, for this machine.
 */
export async function productImage(
  architecture = machineArchitecture,
  archive = productArchive(architecture),
): Promise<string> {
  const given = process.env['TCPCRYPT_IMAGE'];
  if (given && architecture === machineArchitecture) return given;
  await baseImage();
  const buildArgs = { BASE: BASE_IMAGE };
  buildImage({ tag: PRODUCT_IMAGE, context: repository, buildArgs, architecture }, archive);
  return archive;
}

function productArchive(architecture: Architecture): string {
  const suffix = architecture === machineArchitecture ? '' : `-${architecture}`;
  return join(repository, `build/tcpcrypt-image${suffix}.tar`);
}

/** The same layers under another name, for upgrades. */
export async function nextImage(): Promise<string> {
  const product = await productImage();
  const archive = join(repository, 'build/tcpcrypt-next-image.tar');
  mkdirSync(dirname(archive), { recursive: true });
  const context = mkdtempSync(join(tmpdir(), 'tcpcrypt-image-'));
  try {
    const dockerfile = `FROM docker-archive:${product}\nLABEL version=${NEXT_TAG}\n`;
    writeFileSync(join(context, 'Dockerfile'), dockerfile);
    buildImage({ tag: NEXT_IMAGE, context }, archive);
  } finally {
    rmSync(context, { recursive: true });
  }
  return archive;
}

const TOOLS_DOCKERFILE = `FROM ${BASE_IMAGE}
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends \\
  curl nginx-light bind9-dnsutils iperf3 iproute2 iptables procps netcat-openbsd \\
  && rm -rf /var/lib/apt/lists
`;

export async function toolsImage(): Promise<string> {
  return cached('tools', TOOLS_DOCKERFILE, async (archive) => {
    await baseImage();
    buildWith({}, TOOLS_DOCKERFILE, TOOLS_IMAGE, archive);
  });
}

export async function meshImage(): Promise<string> {
  const installers = ['istio-iptables', 'linkerd-proxy-init'] as const;
  await buildPrograms(installers);
  const files = Object.fromEntries(installers.map((name) => [name, programPath(name)]));
  const dockerfile = `${TOOLS_DOCKERFILE}COPY ${installers.join(' ')} /usr/local/bin/\n`;
  return cached('mesh', [dockerfile, ...Object.values(files)].join('\n'), async (archive) => {
    await baseImage();
    buildWith(files, dockerfile, MESH_IMAGE, archive);
  });
}

/** All that the tests load, so that none of them waits for it. */
export async function buildImages(): Promise<void> {
  for (const make of [pauseImage, corednsImage, toolsImage, meshImage]) await make();
  for (const architecture of ARCHITECTURES) await productImage(architecture);
}
