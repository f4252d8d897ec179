/** Loss, reordering, duplicates: transfers are right; encrypted unless the very handshake was lost. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startMiddlebox } from './support/middlebox.ts';
import { Lab, requireRoot } from './support/namespaces.ts';
import { outcomeOf } from './support/outcome.ts';
import { makePath, PORT } from './support/path.ts';
import { startTcpcrypt } from './support/tcpcrypt.ts';
import { transfer } from './support/transfer.ts';

const CONNECTIONS = 10;

/** A lost handshake packet may make a connection plain, for these reasons and no other. */
const EXCUSES = new Set(['syn_timeout', 'init_timeout', 'negative_list', 'peer_unsupported']);

for (const [name, kinds, works] of [
  ['1 % lost', ['loss,percent=1'], ['lost']],
  ['5 % lost', ['loss,percent=5'], ['lost']],
  ['10 % reordered', ['reorder,percent=10,delayMs=3'], ['reordered']],
  ['10 % duplicated', ['duplicate,percent=10'], ['duplicated']],
  [
    'lost, reordered, duplicated, renumbered',
    ['loss,percent=1', 'reorder', 'duplicate', 'randomise-isn'],
    ['lost', 'reordered', 'duplicated'],
  ],
] as const) {
  test(name, { timeout: 120_000 }, async (t) => {
    if (!requireRoot(t)) return;
    using lab = new Lab();
    const path = await makePath(lab);
    const options = {
      host: path.server.address4(),
      port: PORT,
      up: 100_000,
      down: 100_000,
      timeoutMs: 40_000,
    };

    await t.test('between plain hosts', async () => {
      const box = await startMiddlebox(path.router, kinds);
      const result = await transfer(path.client, { ...options, connections: 2 });
      assert.ok(result.ok, JSON.stringify(result));
      assert.ok((await box.stop())['packets'] > 50);
    });

    await t.test('with tcpcrypt at both ends', async () => {
      const box = await startMiddlebox(path.router, kinds);
      await using client = await startTcpcrypt(path.client);
      await using server = await startTcpcrypt(path.server);
      const [result, outcome] = await outcomeOf(
        [client, server],
        () => transfer(path.client, { ...options, connections: CONNECTIONS }),
        CONNECTIONS,
      );
      const counters = await box.stop();
      const seen = `${JSON.stringify(outcome)} ${JSON.stringify(counters)} ${JSON.stringify(result.connections.filter((each) => !each.ok))}`;
      t.diagnostic(seen);
      assert.ok(result.ok, seen);
      assert.equal((outcome.encrypted ?? 0) + (outcome.plain ?? 0), CONNECTIONS, seen);
      assert.ok((outcome.encrypted ?? 0) >= CONNECTIONS / 2, seen);
      for (const reason of Object.keys(outcome.fallbacks ?? {})) assert.ok(EXCUSES.has(reason), seen);
      for (const name of works) assert.ok(counters[name] > 0, seen);
    });
  });
}
