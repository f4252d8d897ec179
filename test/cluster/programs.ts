/**
 * The programs of a cluster, built from the Go modules in `programs/` at the versions that their go.mod pins, and
 * kept under names that carry version and checksum: in `$TCPCRYPT_CACHE`, else in the user's cache folder, so that
 * every working tree shares them. etcd, containerd and runc are Debian's.
 */
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { progress } from './progress.ts';

/** Go itself is fetched at this version where the machine's is older. */
const GO_VERSION = '1.26.8';
const KUBERNETES = 'k8s.io/kubernetes';

interface Program {
  /** The folder under `programs/`. */
  readonly folder: string;
  /** The module whose version is the program's. */
  readonly module: string;
  readonly package: string;
}

const kubernetes = (name: string): Program => ({
  folder: 'kubernetes',
  module: KUBERNETES,
  package: `${KUBERNETES}/cmd/${name}`,
});

const cniPlugin = (kind: string, name: string): Program => ({
  folder: 'cni-plugins',
  module: 'github.com/containernetworking/plugins',
  package: `github.com/containernetworking/plugins/plugins/${kind}/${name}`,
});

/** In the order in which others wait for them. */
const programs = {
  'kube-apiserver': kubernetes('kube-apiserver'),
  kubectl: kubernetes('kubectl'),
  helm: { folder: 'helm', module: 'helm.sh/helm/v3', package: 'helm.sh/helm/v3/cmd/helm' },
  'kube-controller-manager': kubernetes('kube-controller-manager'),
  'kube-scheduler': kubernetes('kube-scheduler'),
  kubelet: kubernetes('kubelet'),
  'kube-proxy': kubernetes('kube-proxy'),
  coredns: { folder: 'coredns', module: 'github.com/coredns/coredns', package: '.' },
  cnitool: {
    folder: 'cni',
    module: 'github.com/containernetworking/cni',
    package: 'github.com/containernetworking/cni/cnitool',
  },
  // Debian's know CNI 1.0 only; these know 1.1.
  ptp: cniPlugin('main', 'ptp'),
  'host-local': cniPlugin('ipam', 'host-local'),
  // Istio's init container runs it; no release of the module has a version.
  'istio-iptables': { folder: 'istio', module: 'istio.io/istio', package: '.' },
  // Linkerd's runs this.
  'linkerd-proxy-init': { folder: 'linkerd', module: 'github.com/linkerd/linkerd2-proxy-init', package: '.' },
  helm4: { folder: 'helm4', module: 'helm.sh/helm/v4', package: 'helm.sh/helm/v4/cmd/helm' },
} satisfies Record<string, Program>;

export type ProgramName = keyof typeof programs;
export const programNames = Object.keys(programs) as ProgramName[];
/** Debian's: there is nothing to build. */
export const ETCD = '/usr/bin/etcd';

const sources = join(import.meta.dirname, 'programs');

/** The folder for what is built once for all working trees. */
export function cacheFolder(): string {
  const cache = process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache');
  return process.env['TCPCRYPT_CACHE'] || join(cache, 'tcpcrypt');
}

/** The version that the program's go.mod pins: `v1.34.4`. */
export function programVersion(name: ProgramName): string {
  const { folder, module } = programs[name];
  const text = readFileSync(join(sources, folder, 'go.mod'), 'utf8');
  const version = new RegExp(`^\\s*(?:require )?${module} (v\\S+)`, 'm').exec(text)?.[1];
  if (version === undefined) throw new Error(`programs/${folder}/go.mod does not require ${module}`);
  return version;
}

/** Where a program is once it is built. Its name changes with its sources and their pinned dependencies. */
export function programPath(name: ProgramName): string {
  const { folder } = programs[name];
  const hash = createHash('sha256').update(process.arch);
  for (const file of readdirSync(join(sources, folder)).sort())
    hash.update(readFileSync(join(sources, folder, file)));
  const key = `${name}-${programVersion(name)}-${hash.digest('hex').slice(0, 8)}`;
  return join(cacheFolder(), 'programs', key);
}

/** The program's path; throws, saying what to do, when it is not built. */
export function requireProgram(name: ProgramName): string {
  const path = programPath(name);
  if (!existsSync(path)) throw new Error(`${name} is not built: run 'npm run cluster -- build ${name}'`);
  return path;
}

/** Builds what is not in the cache, one after the other, with a line for each. */
export async function buildPrograms(names: readonly ProgramName[] = programNames): Promise<void> {
  for (const name of names) {
    const path = programPath(name);
    if (existsSync(path)) continue;
    await progress(`${name} ${programVersion(name)}`, () =>
      build(programs[name], programVersion(name), path),
    );
  }
}

async function build(program: Program, version: string, path: string): Promise<void> {
  mkdirSync(join(cacheFolder(), 'programs'), { recursive: true });
  // Under a name of its own and moved: whoever builds or runs it at the same time sees a whole file.
  const unfinished = `${path}.${process.pid}`;
  const flags = ['-trimpath', '-ldflags', linkerFlags(program, version), '-o', unfinished];
  await runGo(join(sources, program.folder), ['build', ...flags, program.package]);
  renameSync(unfinished, path);
}

/** Kubernetes' programs learn their version from the linker; kubelet and API server compare theirs. */
function linkerFlags({ module }: Program, version: string): string {
  const flags = ['-s', '-w'];
  if (module === KUBERNETES) {
    const [major, minor] = version.slice(1).split('.');
    const values = { gitVersion: version, gitMajor: major, gitMinor: minor };
    for (const [name, value] of Object.entries(values))
      flags.push(`-X k8s.io/component-base/version.${name}=${value}`);
  }
  return flags.join(' ');
}

/** A file of a module that `programs/FOLDER` requires, fetched if need be. */
export async function moduleFile(name: ProgramName, path: string): Promise<string> {
  const { folder, module } = programs[name];
  const stdout = await runGo(join(sources, folder), ['mod', 'download', '-json', module]);
  return join((JSON.parse(stdout) as { Dir: string }).Dir, path);
}

export const hasGo = (): boolean => spawnSync('go', ['version']).status === 0;

/** Whether `scripts/setup cluster` was here: Go to build with, and etcd for the API server. */
export const isSetUp = (): boolean => hasGo() && existsSync('/usr/bin/etcd');

/** Runs `go` in a folder, at low priority: a build takes minutes, and others may share the machine. */
async function runGo(folder: string, args: readonly string[]): Promise<string> {
  const { command, env } = await goCommand();
  return run('nice', [command, ...args], folder, { CGO_ENABLED: '0', GOFLAGS: '-buildvcs=false', ...env });
}

interface Go {
  readonly command: string;
  readonly env: Readonly<Record<string, string>>;
}

/** The machine's Go if it is new enough, else one that the machine's own fetches through the module proxy. */
async function goCommand(): Promise<Go> {
  if (!hasGo()) throw new Error("there is no Go: install Debian's golang-go, any version");
  const found = (await run('go', ['env', 'GOVERSION'], sources, { GOTOOLCHAIN: 'local' })).trim();
  const [, minor = 0] = found.replace('go', '').split('.').map(Number);
  if (minor >= Number(GO_VERSION.split('.')[1])) return { command: 'go', env: { GOTOOLCHAIN: 'local' } };
  // From 1.21 on Go fetches other versions of itself.
  if (minor >= 21) return { command: 'go', env: { GOTOOLCHAIN: `go${GO_VERSION}` } };
  return { command: await downloadGo(), env: { GOTOOLCHAIN: 'local' } };
}

/** An older Go can fetch the same module, but the module cache keeps no executable bits. */
async function downloadGo(): Promise<string> {
  const arch = process.arch === 'x64' ? 'amd64' : process.arch;
  const module = `golang.org/toolchain@v0.0.1-go${GO_VERSION}.linux-${arch}`;
  const { Dir } = JSON.parse(await run('go', ['mod', 'download', '-json', module], '/', {})) as {
    Dir: string;
  };
  for (const folder of [join(Dir, 'bin'), join(Dir, 'pkg/tool', `linux_${arch}`)])
    for (const file of readdirSync(folder)) chmodSync(join(folder, file), 0o755);
  return join(Dir, 'bin/go');
}

function run(
  command: string,
  args: readonly string[],
  cwd: string,
  env: Readonly<Record<string, string>>,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd, env: { ...process.env, ...env } });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk) => {
      stdout += chunk;
    });
    child.stderr.on('data', (chunk) => {
      stderr = (stderr + chunk).slice(-4000);
    });
    child.once('error', reject);
    child.once('close', (code) => {
      if (code === 0) resolve(stdout);
      else reject(new Error(`${command} ${args.join(' ')}: exit ${code}: ${stderr.trim()}`));
    });
  });
}
