import { TcpcryptError } from '../errors/catalogue.ts';

/** Runs a command to its end. A failure is one line on standard error, `NAME: CODE: message`. Exit status: 0, 1, or 2 for wrong usage. */
export async function exitStatus(name: string, perform: () => Promise<void>): Promise<0 | 1 | 2> {
  // Whoever reads the output may stop to: a pager that ends is no failure, and no reason for a daemon to end.
  process.stdout.on('error', () => {});
  try {
    await perform();
    return 0;
  } catch (error) {
    const known = error instanceof TcpcryptError;
    const code = known ? error.code : 'ERR_TCPCRYPT_INTERNAL';
    const message = known ? error.message : String((error as Error).stack ?? error);
    const wrongUsage = code === 'ERR_TCPCRYPT_USAGE';
    process.stderr.write(`${name}: ${code}: ${message}${wrongUsage ? `; see ${name} --help` : ''}\n`);
    return wrongUsage ? 2 : 1;
  }
}
