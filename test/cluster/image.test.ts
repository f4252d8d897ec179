/** The product's image for each architecture: whole, of that architecture alone, and the same files in both. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, type TestContext, test } from 'node:test';
import { cannotRun } from './cluster.ts';
import { ARCHITECTURES, type Architecture, productImage } from './images.ts';
import { runCommand } from './machine.ts';

const skip = cannotRun() ?? false;

interface Platform {
  /** As readelf names it. */
  readonly machine: string;
  readonly triplet: string;
  /** Where programs say their loader is. */
  readonly loader: string;
}

const platforms: Readonly<Record<Architecture, Platform>> = {
  amd64: {
    machine: 'Advanced Micro Devices X86-64',
    triplet: 'x86_64-linux-gnu',
    loader: '/lib64/ld-linux-x86-64.so.2',
  },
  arm64: { machine: 'AArch64', triplet: 'aarch64-linux-gnu', loader: '/lib/ld-linux-aarch64.so.1' },
};

interface Image {
  readonly architecture: string;
  /** Its files and links, sorted: paths from `/`. */
  readonly paths: readonly string[];
  readonly programs: readonly Program[];
}

/** An ELF file: what readelf says of it. */
interface Program {
  readonly path: string;
  readonly machine: string | undefined;
  readonly loader: string | undefined;
  readonly needed: readonly string[];
}

/** Unpacks an archive of one layer. */
function openImage(t: TestContext, archive: string): Image {
  const folder = mkdtempSync(join(tmpdir(), 'tcpcrypt-image-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const root = join(folder, 'root');
  mkdirSync(root);
  runCommand('tar', ['-xf', archive, '-C', folder]);
  const json = (file: string) => JSON.parse(readFileSync(join(folder, file), 'utf8'));
  const [{ Config: config, Layers: layers }] = json('manifest.json');
  assert.equal(layers.length, 1);
  runCommand('tar', ['-xf', join(folder, layers[0]), '-C', root]);
  const list = (...what: string[]) =>
    runCommand('find', [root, ...what, '-printf', '/%P\n'])
      .stdout.trim()
      .split('\n')
      .sort();
  const isElf = (path: string) =>
    readFileSync(join(root, path)).subarray(0, 4).equals(Buffer.from('\x7fELF'));
  const elf = list('-type', 'f').filter(isElf);
  const said = runCommand('readelf', ['-hldW', ...elf.map((path) => join(root, path))]).stdout;
  const programs = said
    .split(/^File: /m)
    .slice(1)
    .map((text) => ({
      path: (text.split('\n', 1)[0] as string).slice(root.length),
      machine: /^ +Machine: +(.*)$/m.exec(text)?.[1],
      loader: /program interpreter: (.*)\]/.exec(text)?.[1],
      needed: [...text.matchAll(/\(NEEDED\).*\[(.*)\]$/gm)].map((match) => match[1] as string),
    }));
  assert.deepEqual(
    programs.map(({ path }) => path),
    elf,
  );
  return { architecture: json(config).architecture, paths: list('!', '-type', 'd'), programs };
}

before(async () => {
  if (!skip) for (const architecture of ARCHITECTURES) await productImage(architecture);
});

for (const architecture of ARCHITECTURES) {
  const { machine, triplet, loader } = platforms[architecture];
  test(`the image for ${architecture}: its programs are of that architecture, their libraries there`, {
    skip,
  }, async (t) => {
    const image = openImage(t, await productImage(architecture));
    assert.equal(image.architecture, architecture);
    const paths = new Set(image.paths);
    const node = image.programs.find(({ path }) => path === '/usr/bin/node');
    assert.equal(node?.loader, loader);
    const folders = [loader.replace(/[^/]*$/, ''), `/lib/${triplet}/`].map((folder) => `/usr${folder}`);
    for (const program of image.programs) {
      assert.equal(program.machine, machine, program.path);
      assert.ok([undefined, loader].includes(program.loader), `${program.path} asks for ${program.loader}`);
      for (const name of program.needed)
        assert.ok(
          folders.some((folder) => paths.has(folder + name)),
          `${program.path} needs ${name}`,
        );
    }
    for (const path of [
      '/opt/tcpcrypt/build/nfqueue.node',
      '/usr/bin/tcpcrypt-node',
      `/usr/lib/${triplet}/xtables/libxt_NFQUEUE.so`,
    ])
      assert.ok(
        image.programs.some((program) => program.path === path),
        `${path} is not there`,
      );
  });
}

test('the images have the same files, but for the names of the architectures', { skip }, async (t) => {
  const named = ARCHITECTURES.map(async (architecture) => {
    const { loader, triplet } = platforms[architecture];
    const { paths } = openImage(t, await productImage(architecture));
    return paths.map((path) => path.replace(`/usr${loader}`, 'LOADER').replace(triplet, 'TRIPLET')).sort();
  });
  const [amd64, arm64] = await Promise.all(named);
  assert.deepEqual(arm64, amd64);
});
