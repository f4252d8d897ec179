/** Many connections, many bytes, long silence, fast re-keying, over tcpcrypt. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { total } from './support/metrics.ts';
import { startMiddlebox } from './support/middlebox.ts';
import { Lab, requireRoot } from './support/namespaces.ts';
import { assertAllEncrypted, type Pair, secretly, withPair } from './support/pair.ts';
import { GREETING, GREETING_PORT, makePath, PORT } from './support/path.ts';
import { NEEDLE } from './support/pattern.ts';
import { ended, eventually, sleep } from './support/processes.ts';
import { startTcpcrypt } from './support/tcpcrypt.ts';
import { startServer, transfer } from './support/transfer.ts';

function iperf(pair: Pair, ...args: string[]): { sent: number; received: number } {
  const { stdout } = pair.client.run(
    'iperf3',
    ['-c', pair.address, '-J', '-t', '2', '--connect-timeout', '5000', ...args],
    { timeoutMs: 40_000 },
  );
  const { end, error } = JSON.parse(stdout);
  assert.equal(error, undefined);
  return { sent: end.sum_sent.bytes, received: end.sum_received.bytes };
}

test('iperf3: 1, 8 and 64 streams, each way and both at once', { timeout: 90_000 }, (t) =>
  withPair(t, async (pair) => {
    // It says much, and nobody would read it while the client runs.
    const server = pair.server.spawn('iperf3', ['-s'], { stdio: 'ignore' });
    const listens = (): boolean => pair.server.run('ss', ['-Hltn', 'sport = 5201']).stdout !== '';
    await eventually(listens, 'iperf3 listens');
    const digits = '0123456789'.repeat(3);
    for (const [streams, direction] of [
      [1, []],
      [1, ['--bidir']],
      [8, []],
      [8, ['-R']],
      [64, ['--bidir', '--window', '32K']],
    ] as const) {
      const { received } = await secretly(
        pair,
        [digits],
        () => iperf(pair, '--repeating-payload', '-P', String(streams), ...direction),
        300,
      );
      assert.ok(received > 1_000_000, `${streams} streams: ${received} bytes`);
      t.diagnostic(`${streams} streams ${direction.join('')}: ${((received * 8) / 2e6).toFixed(0)} Mbit/s`);
    }
    assertAllEncrypted(pair, 5 + 1 + 2 + 8 + 8 + 128);
    await ended(server);
  }),
);

test('1,000 connections open at once, every byte checked', { timeout: 120_000 }, (t) =>
  withPair(t, async (pair) => {
    await startServer(pair.server, { port: PORT });
    const running = transfer(pair.client, {
      ...{ host: pair.address, port: PORT, up: 3000, down: 3000, timeoutMs: 90_000 },
      ...{ connections: 1000, openEveryMs: 10, idleMs: 4000 },
    });
    const open = (): number => total(pair.atServer.metrics(), 'tcpcrypt_connections', { state: 'encrypted' });
    let most = 0;
    await eventually(
      () => {
        most = Math.max(most, open());
        return most >= 1000;
      },
      'a thousand are encrypted and open',
      80_000,
    ).catch((error) => t.diagnostic(`${error.message}: at most ${most}`));
    const result = await running;
    const failed = result.connections.filter((each) => !each.ok);
    assert.equal(failed.length, 0, JSON.stringify(failed.slice(0, 3)));
    assertAllEncrypted(pair, 1000);
    assert.ok(most >= 1000, `at most ${most} at once`);
  }),
);

test(
  'a connection that is silent for 15 s goes on; both ends name the same session',
  { timeout: 60_000 },
  (t) =>
    withPair(t, async (pair) => {
      await startServer(pair.server, { port: PORT });
      const result = await secretly(pair, [NEEDLE], async () => {
        const running = transfer(pair.client, {
          host: pair.address,
          port: PORT,
          up: 20_000,
          down: 20_000,
          idleMs: 15_000,
          timeoutMs: 40_000,
        });
        await sleep(13_000);
        const [mine] = pair.atClient.connections();
        const theirs = pair.atServer.connections().find((each) => each.remote === mine.local);
        assert.equal(mine.state, 'encrypted');
        assert.match(mine.sessionId ?? '', /^[0-9a-f]{64}$/);
        assert.equal(theirs?.sessionId, mine.sessionId);
        assert.deepEqual([mine.active, theirs?.active, mine.role, theirs?.role], [true, false, 'C', 'S']);
        return running;
      });
      assert.ok(result.ok, JSON.stringify(result));
      assertAllEncrypted(pair);
    }),
);

test('re-key every megabyte, under load from both ends at once', { timeout: 60_000 }, (t) =>
  withPair(
    t,
    async (pair) => {
      await startServer(pair.server, { port: PORT });
      const result = await secretly(
        pair,
        [NEEDLE],
        () =>
          transfer(pair.client, {
            host: pair.address,
            port: PORT,
            up: 25_000_000,
            down: 25_000_000,
            timeoutMs: 50_000,
          }),
        300,
      );
      assert.ok(result.ok, JSON.stringify(result));
      for (const each of [pair.atClient, pair.atServer]) {
        for (const direction of ['in', 'out']) {
          const rekeys = total(each.metrics(), 'tcpcrypt_rekeys_total', { direction });
          t.diagnostic(`${direction}: ${rekeys} re-keys`);
          assert.ok(rekeys >= 5, `${rekeys} re-keys ${direction}`);
        }
        assert.equal(total(each.metrics(), 'tcpcrypt_mac_failures_total'), 0);
      }
      assertAllEncrypted(pair);
    },
    { policy: { rekey: { afterBytes: '1Mi' } } },
  ),
);

test("a server that speaks first, and the client's first ACK is lost: encrypted", {
  timeout: 60_000,
}, async (t) => {
  if (!requireRoot(t)) return;
  using lab = new Lab();
  const { client, router, server } = await makePath(lab);
  await using atClient = await startTcpcrypt(client);
  await using atServer = await startTcpcrypt(server);
  const box = await startMiddlebox(router, ['lose-first,from=opener']);
  const result = await transfer(client, {
    host: server.address4(),
    port: GREETING_PORT,
    greeting: GREETING,
    up: 5000,
    down: 5000,
  });
  assert.ok(result.ok, JSON.stringify(result));
  assert.equal((await box.stop())['lost'], 1);
  for (const each of [atClient, atServer]) {
    assert.equal(each.outcomes('encrypted'), 1);
    assert.deepEqual(each.fallbacks(), {});
  }
});
