/** A download between pods that stands still while a test looks at its connection, with what went over the cable. */
import { type Captured, capture } from '../../kernel/support/capture.ts';
import { ended, finished } from '../../kernel/support/processes.ts';
import type { NodeName } from '../addresses.ts';
import type { TestNamespace } from './pods.ts';

/** What the server of `secretServer` sends, over and over. */
export const SECRET = 'Dear Alice, the treasure lies under the old oak.';
export const SECRET_BYTES = 20_000_000;
/** More than this is on its way, and less than the whole, when the download stands still. */
const HEAD_BYTES = 1_000_000;
const TIMEOUT_MS = 300_000;

/** A pod's command: nginx with the secret at /letter.txt. */
export const SECRET_SERVER = [
  'sh',
  '-c',
  `yes '${SECRET}' | head -c ${SECRET_BYTES} >/var/www/html/letter.txt; exec nginx -g 'daemon off;'`,
];

/** curl, whose reader waits for a line on standard input after the head; says how much it read of head and rest. */
const HELD_CURL = `exec 3<&0; curl -sSf "$1" | { head -c ${HEAD_BYTES} | wc -c; read -r go <&3; wc -c; }`;

/**
 * Fetches /letter.txt of pod `server` in pod `client` and returns what was captured on the cable of `node` meanwhile.
 * `look` is called while the connection stands open in the middle of it. Throws unless all of it arrived.
 */
export async function fetchLetter(
  namespace: TestNamespace,
  { client, server, node, family = 4 }: { client: string; server: string; node: NodeName; family?: 4 | 6 },
  look?: () => Promise<void>,
): Promise<Captured> {
  const { cluster, name } = namespace;
  const url = `http://${namespace.address(server, family)}/letter.txt`;
  const tap = await capture(cluster.control.tap(node));
  const command = ['sh', '-c', HELD_CURL, 'sh', url];
  const child = cluster.spawnKubectl(['-n', name, 'exec', '-i', client, '-c', 'main', '--', ...command]);
  const done = finished(child, TIMEOUT_MS);
  let captured: Captured;
  try {
    await look?.();
    child.stdin?.end('go\n');
    const { stdout, stderr } = await done;
    const [head, rest] = stdout.trim().split(/\s+/).map(Number);
    if (head + rest !== SECRET_BYTES)
      throw new Error(`${client} received '${stdout.trim()}' bytes: ${stderr}`);
  } finally {
    await ended(child, 'SIGKILL');
    // Also when something went wrong: a capture left behind would keep the process.
    captured = await tap.stop();
  }
  return captured;
}
