/** What `helm test` runs in its two pods, here in two network namespaces. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { type Pair, withPair } from './support/pair.ts';
import { ended, finished, saying } from './support/processes.ts';

const OPERATOR = join(import.meta.dirname, '../../bin/tcpcrypt-operator');

async function selfTest({ client, server, atClient, address }: Pair, serverSocket: string, wait: string) {
  const serving = server.spawn(OPERATOR, ['self-test-server', '--api-socket', serverSocket], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  try {
    await saying(serving, 'ready');
    const socket = join(atClient.folder, 'api.sock');
    const asking = client.spawn(OPERATOR, ['self-test', address, '--wait', wait, '--api-socket', socket], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    return await finished(asking);
  } finally {
    await ended(serving);
  }
}

test('an encrypted connection: both ends say so, and name the same session', { timeout: 60_000 }, (t) =>
  withPair(t, async (pair) => {
    const { code, stdout, stderr } = await selfTest(pair, join(pair.atServer.folder, 'api.sock'), '20');
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^encrypted: X25519MLKEM768, \S+, session [0-9a-f]{64}\n$/);
  }),
);

test('one end without a sidecar, or a plain connection: it fails and says why', { timeout: 60_000 }, (t) =>
  withPair(
    t,
    async (pair) => {
      const none = await selfTest(pair, '/nowhere/api.sock', '2');
      assert.equal(none.code, 1);
      assert.match(none.stderr, /ERR_TCPCRYPT_SELF_TEST: /);
      const plain = await selfTest(pair, join(pair.atServer.folder, 'api.sock'), '2');
      assert.equal(plain.code, 1);
      assert.match(plain.stderr, /ERR_TCPCRYPT_SELF_TEST: .*(plain|no such connection|not encrypted)/i);
    },
    { policy: { mode: 'Disabled' } },
  ),
);
