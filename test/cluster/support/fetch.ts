/** Downloads between pods: one that stands still while a test looks at its connection, and some that go on all the while. */
import assert from 'node:assert/strict';
import { type Captured, capture } from '../../kernel/support/capture.ts';
import { ended, finished } from '../../kernel/support/processes.ts';
import type { NodeName } from '../addresses.ts';
import type { TestNamespace } from './pods.ts';
import { encryptedAtBothEnds } from './sidecar.ts';

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

/** Fetches the letter again and again, ten seconds each, until there is a file; a line for each. */
const STEADY_CURL = `rm -f /tmp/enough
while [ ! -e /tmp/enough ]; do curl -sSf --limit-rate 2M --max-time 120 "$1" | wc -c; done`;

export interface Ends {
  readonly client: string;
  readonly server: string;
  readonly family?: 4 | 6;
}

const letterOf = (namespace: TestNamespace, { server, family = 4 }: Ends): string =>
  `http://${namespace.address(server, family)}/letter.txt`;

/** Fetches the letter; throws unless all of it arrived. */
export function fetchWhole(namespace: TestNamespace, ends: Ends): void {
  const script = 'curl -sSf --max-time 60 "$1" | wc -c';
  const { stdout, stderr } = namespace.exec(ends.client, [
    'sh',
    '-c',
    script,
    'sh',
    letterOf(namespace, ends),
  ]);
  if (Number(stdout) !== SECRET_BYTES)
    throw new Error(`${ends.client} received ${stdout.trim()} bytes: ${stderr}`);
}

/**
 * Does `work` while pod `client` fetches the letter again and again; throws unless each arrived whole, the one that was
 * on its way at the end too. Returns how many did.
 */
export async function whileFetching(
  namespace: TestNamespace,
  ends: Ends,
  work: () => Promise<void>,
): Promise<number> {
  const command = ['sh', '-c', STEADY_CURL, 'sh', letterOf(namespace, ends)];
  const exec = ['-n', namespace.name, 'exec', ends.client, '--container', 'main', '--', ...command];
  const child = namespace.cluster.spawnKubectl(exec);
  const done = finished(child, 2 * TIMEOUT_MS);
  try {
    await work();
    namespace.exec(ends.client, ['touch', '/tmp/enough']);
    const { stdout, stderr } = await done;
    const lengths = stdout.trim().split(/\s+/).map(Number);
    if (stderr !== '' || lengths.some((length) => length !== SECRET_BYTES))
      throw new Error(`${ends.client} received ${lengths.join(', ')} bytes: ${stderr}`);
    return lengths.length;
  } finally {
    await ended(child, 'SIGKILL');
  }
}

/**
 * Fetches /letter.txt of pod `server` in pod `client` and returns what was captured on the cable of `node` meanwhile.
 * `look` is called while the connection stands open in the middle of it. Throws unless all of it arrived.
 */
export async function fetchLetter(
  namespace: TestNamespace,
  ends: Ends & { readonly node: NodeName },
  look?: () => Promise<void>,
): Promise<Captured> {
  const { cluster, name } = namespace;
  const { client } = ends;
  const tap = await capture(cluster.control.tap(ends.node));
  const command = ['sh', '-c', HELD_CURL, 'sh', letterOf(namespace, ends)];
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

/**
 * Does `work` in the middle of downloads between two pods with sidecars: of one that stands still, whose connection must
 * be the same afterwards, and of a row of them. Whatever pods fetch meanwhile over the cable of `node`, nothing of it may
 * be there in clear.
 */
export async function inTheMiddle(
  namespace: TestNamespace,
  ends: Ends & { readonly node: NodeName },
  work: () => Promise<void> = async () => {},
): Promise<void> {
  const { client, server } = ends;
  const captured = await fetchLetter(namespace, ends, async () => {
    const [{ sessionId }] = await encryptedAtBothEnds(namespace, client, server, 80);
    await whileFetching(namespace, ends, work);
    // The same connection, of which the rest is to come.
    await encryptedAtBothEnds(namespace, client, server, 80, sessionId);
  });
  assert.ok(captured.dataPackets > 100, `only ${captured.dataPackets} packets with data`);
  assert.equal(captured.find('treasure'), undefined, 'data was on the wire in clear');
}
