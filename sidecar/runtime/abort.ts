/**
 * Ends the sockets of encrypted connections, both ends told by RST. Without our rules the kernel would go on with them
 * in plain text, so none may be left when the rules go.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);
const PER_CALL = 64;

export interface Ends {
  readonly local: string;
  readonly remote: string;
}

/** Asks the kernel (SOCK_DESTROY, through `ss`) for each; what it cannot do shows in the sockets that are left. */
export async function abortSockets(connections: readonly Ends[]): Promise<void> {
  for (let at = 0; at < connections.length; at += PER_CALL) {
    const some = connections.slice(at, at + PER_CALL);
    const filter = some.map(({ local, remote }) => `( src ${local} and dst ${remote} )`).join(' or ');
    await run('ss', ['--no-header', '--kill', '--tcp', filter]).catch(() => {});
  }
}
