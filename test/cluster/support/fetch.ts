/** Downloads between pods: one that stands still while a test looks at its connection, and some that go on all the while. */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import type { ApiConnection } from '../../../sidecar/runtime/api.ts';
import { type Captured, captured } from '../../kernel/support/capture.ts';
import { ended, type Finished, finished, saying } from '../../kernel/support/processes.ts';
import type { NodeName } from '../addresses.ts';
import type { TestNamespace } from './pods.ts';
import { encryptedAtBothEnds, Sidecar } from './sidecar.ts';

/** What the server of `SECRET_SERVER` sends, over and over. */
export const SECRET = 'Dear Alice, the treasure lies under the old oak.';
export const SECRET_BYTES = 20_000_000;
/** More than this is on its way, and less than the whole, when the download stands still. */
const HEAD_BYTES = 1_000_000;
const TIMEOUT_MS = 300_000;

/** A pod's command: nginx, in no hurry, with the secret at /letter.txt. */
export const SECRET_SERVER = [
  'sh',
  '-c',
  `echo 'send_timeout 600s;' >/etc/nginx/conf.d/patience.conf; yes '${SECRET}' | head -c ${SECRET_BYTES} >/var/www/html/letter.txt; exec nginx -g 'daemon off;'`,
];

/** SHA-256 of so much of it, in hex. */
export const secretHash = (bytes: number): string =>
  createHash('sha256')
    .update(Buffer.alloc(bytes, `${SECRET}\n`))
    .digest('hex');

/** curl, whose reader takes as many bytes as each line on standard input says, then the rest. */
const SCRIPT = `exec 3<&0 5>&1
  curl -sSf "$1" | { while read -r bytes <&3; do head -c "$bytes"; echo "read $bytes" >&5; done; cat; } | sha256sum`;

/** Fetches the letter again and again, four seconds each, until there is a file; a line for each. */
const STEADY_CURL = 'until curl -sSf --limit-rate 5M --max-time 120 "$1" | wc -c; [ -e "$2" ]; do :; done';

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
  const enough = `/tmp/enough-${randomUUID()}`;
  const command = ['sh', '-c', STEADY_CURL, 'sh', letterOf(namespace, ends), enough];
  const exec = ['-n', namespace.name, 'exec', ends.client, '--container', 'main', '--', ...command];
  const child = namespace.cluster.spawnKubectl(exec);
  const done = finished(child, 2 * TIMEOUT_MS);
  try {
    await work();
    namespace.exec(ends.client, ['touch', enough]);
    const { stdout, stderr } = await done;
    const lengths = stdout.trim().split(/\s+/).map(Number);
    if (stderr !== '' || lengths.some((length) => length !== SECRET_BYTES))
      throw new Error(`${ends.client} received ${lengths.join(', ')} bytes: ${stderr}`);
    return lengths.length;
  } finally {
    await ended(child, 'SIGKILL');
  }
}

/** /letter.txt of pod `server`, on its way to pod `client`. */
export class Download implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #done: Promise<Finished>;
  readonly #client: string;

  constructor(namespace: TestNamespace, ends: Ends) {
    const { client } = ends;
    const exec = [
      'exec',
      '-i',
      client,
      '-c',
      'main',
      '--',
      'sh',
      '-c',
      SCRIPT,
      'sh',
      letterOf(namespace, ends),
    ];
    this.#child = namespace.cluster.spawnKubectl(['-n', namespace.name, ...exec]);
    this.#done = finished(this.#child, TIMEOUT_MS);
    this.#client = client;
  }

  /** So many bytes more; resolves when the client has them. */
  async read(bytes: number): Promise<void> {
    const said = saying(this.#child, `read ${bytes}`, TIMEOUT_MS);
    this.#child.stdin?.write(`${bytes}\n`);
    await said;
  }

  /** All that is left; throws unless the whole is what the server has. */
  async finish(): Promise<void> {
    this.#child.stdin?.end();
    const { stdout, stderr } = await this.#done;
    if (!stdout.includes(secretHash(SECRET_BYTES)))
      throw new Error(`${this.#client} did not receive what was sent: ${stderr.slice(-500)}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await ended(this.#child, 'SIGKILL');
  }
}

/**
 * Fetches /letter.txt of pod `server` in pod `client` and returns what was captured on the cable of `node` meanwhile.
 * `look` is called while the connection stands open in the middle of it. Throws unless all of it arrived.
 */
export async function fetchLetter(
  namespace: TestNamespace,
  { node, ...ends }: Ends & { readonly node: NodeName },
  look?: (download: Download) => Promise<void>,
): Promise<Captured> {
  const [packets] = await captured(namespace.cluster.control.tap(node), 'tcp', async () => {
    await using download = new Download(namespace, ends);
    await download.read(HEAD_BYTES);
    await look?.(download);
    await download.finish();
  });
  return packets;
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
  const packets = await fetchLetter(namespace, ends, async () => {
    const [before] = await encryptedAtBothEnds(namespace, ends.client, ends.server, 80);
    await whileFetching(namespace, ends, work);
    assertSame(namespace, ends.client, before);
  });
  assertSecret(packets);
}

/** That a pod's sidecar still has the connection, under the same keys. */
export function assertSame(namespace: TestNamespace, pod: string, before: ApiConnection): void {
  const { local, remote, sessionId } = before;
  const now = new Sidecar(namespace, pod)
    .connections()
    .find((each) => each.local === local && each.remote === remote);
  assert.deepEqual([now?.state, now?.sessionId], ['encrypted', sessionId], 'it is another connection');
}

/** That much of the letter was on the cable, and nothing of it in clear. */
export function assertSecret(packets: Captured): void {
  assert.ok(packets.dataPackets > 100, `only ${packets.dataPackets} packets with data`);
  assert.equal(packets.find('treasure'), undefined, 'data was on the wire in clear');
}
