/** `npm run cluster -- COMMAND`: see USAGE. */
import { buildPrograms, type ProgramName, programNames } from './programs.ts';

const USAGE = `usage: npm run cluster -- COMMAND
  build [PROGRAM…]   build the cluster's programs, all or some: ${programNames.join(', ')}
`;

class UsageError extends Error {}

async function main([command, ...args]: readonly string[]): Promise<number> {
  switch (command) {
    case 'build':
      await buildPrograms(args.length > 0 ? args.flatMap(programName) : programNames);
      return 0;
    default:
      throw new UsageError(
        command === undefined ? 'a command is missing' : `there is no command '${command}'`,
      );
  }
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
