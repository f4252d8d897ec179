/** `npm run cluster -- COMMAND`: see USAGE. */
import { existsSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { type NodeName, nodeNames } from './addresses.ts';
import { Cluster, down, isUp, reboot, status, up } from './cluster.ts';
import { ARCHITECTURES, baseImage, buildImages, productImage } from './images.ts';
import { buildPrograms, type ProgramName, programNames, programPath } from './programs.ts';
import { progress } from './progress.ts';

const USAGE = `usage: npm run cluster -- COMMAND
  up                 start a cluster of two nodes; nothing happens when it is up
  down               remove it, or what a crash left of it
  status             what runs, and where its logs are; exit code 1 unless all does
  load-image FILE…   import image archives into both nodes
  kubectl ARGUMENT…  kubectl as the administrator
  reboot NODE        ${nodeNames.join(' or ')}: as a power failure, and the start after it
  image [FILE]       build the product's image as an archive (default: build/tcpcrypt-image.tar);
                     with --platform linux/amd64 or linux/arm64 for that one (other than this machine's:
                     build/tcpcrypt-image-ARCH.tar)
  build [PROGRAM…]   build the cluster's programs, some, or all and the tests' images; say where the programs are:
                     ${programNames.join(', ')}
TCPCRYPT_CLUSTER names the cluster (default: default); several may be up at once.
`;

class UsageError extends Error {}

async function main([command, ...args]: readonly string[]): Promise<number> {
  const cluster = new Cluster();
  switch (command) {
    case 'up':
      await up(cluster);
      return 0;
    case 'down':
      await down(cluster);
      return 0;
    case 'status':
      process.stdout.write(`${status(cluster).join('\n')}\n`);
      return isUp(cluster) ? 0 : 1;
    case 'load-image':
      await loadImages(cluster, args);
      return 0;
    case 'kubectl':
      return kubectl(cluster, args);
    case 'image':
      await image(args);
      return 0;
    case 'reboot':
      if (!nodeNames.includes(args[0] as NodeName)) throw new UsageError('reboot needs the name of a node');
      await progress(`${args[0]} rebooted`, () => reboot(cluster, args[0] as NodeName));
      return 0;
    case 'build': {
      const names = args.length > 0 ? args.flatMap(programName) : programNames;
      await buildPrograms(names);
      if (args.length === 0) await progress('images', buildImages);
      for (const name of names) process.stdout.write(`${name} ${programPath(name)}\n`);
      return 0;
    }
    case 'help':
    case '--help':
      process.stdout.write(USAGE);
      return 0;
    default:
      throw new UsageError(
        command === undefined ? 'a command is missing' : `there is no command '${command}'`,
      );
  }
}

async function image(args: readonly string[]): Promise<void> {
  const { values, positionals } = imageArguments(args);
  const architecture = ARCHITECTURES.find((each) => values.platform === `linux/${each}`);
  if (values.platform !== undefined && architecture === undefined)
    throw new UsageError(`there is no image for '${values.platform}'`);
  await progress('the base, of Debian packages', baseImage);
  await progress('the image', () => productImage(architecture, positionals[0]));
}

function imageArguments(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: { platform: { type: 'string' } }, allowPositionals: true });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

async function loadImages(cluster: Cluster, files: readonly string[]): Promise<void> {
  if (files.length === 0) throw new UsageError('load-image needs a file');
  for (const file of files) {
    if (!existsSync(file)) throw new UsageError(`there is no file '${file}'`);
    await progress(`${file} on both nodes`, async () => cluster.loadImage(file));
  }
}

function kubectl(cluster: Cluster, args: readonly string[]): Promise<number> {
  const child = cluster.spawnKubectl(args, { stdio: 'inherit' });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => resolve(code ?? 128));
  });
}

/** etcd is a name one expects here, but it came with the Debian packages. */
function programName(name: string): ProgramName[] {
  if (name === 'etcd') return [];
  if (!programNames.includes(name as ProgramName)) throw new UsageError(`there is no program '${name}'`);
  return [name as ProgramName];
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  const wrongUsage = error instanceof UsageError;
  process.stderr.write(`cluster: ${(error as Error).message}\n${wrongUsage ? USAGE : ''}`);
  process.exitCode = wrongUsage ? 2 : 1;
}
