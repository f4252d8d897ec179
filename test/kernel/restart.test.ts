/** The rewriter killed, restarted, stopped, given another policy, with connections open. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertAllEncrypted, secretly, withPair } from './support/pair.ts';
import { PORT } from './support/path.ts';
import { NEEDLE } from './support/pattern.ts';
import { eventually, sleep } from './support/processes.ts';
import { startServer, transfer } from './support/transfer.ts';

test(
  'SIGKILL in the middle of a transfer, three times, at either end and at both: the bytes are right, none in clear',
  { timeout: 90_000 },
  (t) =>
    withPair(
      t,
      async (pair) => {
        const { atClient, atServer } = pair;
        await startServer(pair.server, { port: PORT });
        const result = await secretly(
          pair,
          [NEEDLE],
          async () => {
            const running = transfer(pair.client, {
              ...{ host: pair.address, port: PORT, up: 30_000_000, down: 30_000_000, timeoutMs: 60_000 },
              ...{ writeBytes: 60_000, pauseMs: 12 },
            });
            await eventually(
              () => atClient.connections().some((each) => each.state === 'encrypted'),
              'it is encrypted',
            );
            for (const victims of [[atClient], [atServer], [atClient, atServer]]) {
              await sleep(700);
              await Promise.all(victims.map((each) => each.kill()));
              await sleep(300);
              await Promise.all(victims.map((each) => each.start()));
              const [connection] = victims[0].connections();
              assert.equal(connection?.state, 'encrypted', 'it was restored');
            }
            return running;
          },
          300,
        );
        assert.ok(result.ok, JSON.stringify(result));
        assert.ok(result.connections[0].elapsedMs > 3000, 'it lasted longer than the outages');
      },
      { checkpoint: true },
    ),
);

/** Longer than conntrack's own time-outs for a connection that is closed on one side: 60 s and 120 s. */
const HALF_CLOSED_MS = 130_000;

test(
  'half-closed for two minutes with both rewriters dead: the rest comes encrypted when they are back',
  { timeout: 240_000 },
  (t) =>
    withPair(
      t,
      async (pair) => {
        const { atClient, atServer } = pair;
        await startServer(pair.server, { port: PORT, verdictDelayMs: HALF_CLOSED_MS });
        const result = await secretly(pair, [NEEDLE, 'every byte came'], async () => {
          const timeoutMs = HALF_CLOSED_MS + 90_000;
          const running = transfer(pair.client, {
            ...{ host: pair.address, port: PORT, up: 3000, down: 3000, timeoutMs },
          });
          const halfClosed = ['-Htn', 'state', 'fin-wait-2', 'dport', '=', `:${PORT}`];
          await eventually(
            () => pair.client.run('ss', halfClosed).stdout !== '',
            'the client is half-closed',
          );
          await Promise.all([atClient.kill(), atServer.kill()]);
          await sleep(HALF_CLOSED_MS + 1000);
          for (const host of [pair.client, pair.server]) {
            const entries = host.run('conntrack', ['-L', '-p', 'tcp', '--dport', `${PORT}`]).stdout;
            assert.match(
              entries,
              /(FIN_WAIT|CLOSE_WAIT|LAST_ACK) .*mark=(67108864|100663296)/,
              'the entry lives on',
            );
          }
          await Promise.all([atClient.start(), atServer.start()]);
          return running;
        });
        assert.ok(result.ok, JSON.stringify(result));
      },
      { checkpoint: true },
    ),
);

test(
  'after a restart new connections are encrypted with full handshakes: the session cache is never kept',
  { timeout: 60_000 },
  (t) =>
    withPair(
      t,
      async (pair) => {
        const { atClient, atServer } = pair;
        await startServer(pair.server, { port: PORT });
        const once = async (): Promise<void> => {
          const result = await transfer(pair.client, {
            host: pair.address,
            port: PORT,
            up: 5000,
            down: 5000,
          });
          assert.ok(result.ok, JSON.stringify(result));
        };
        await once();
        await once();
        assert.equal(atClient.outcomes('encrypted', { handshake: 'cached' }), 1);
        await atClient.kill();
        await atClient.start();
        await once();
        assert.equal(atClient.outcomes('encrypted', { handshake: 'full' }), 1);
        assert.equal(atClient.outcomes('encrypted', { handshake: 'cached' }), 0);
        await atServer.kill();
        await atServer.start();
        await once();
        assertAllEncrypted(pair);
      },
      { checkpoint: true },
    ),
);

test(
  'SIGTERM: the rewriter serves on until the transfer is over, then takes its rules out',
  { timeout: 60_000 },
  (t) =>
    withPair(t, async (pair) => {
      await startServer(pair.server, { port: PORT });
      const result = await secretly(
        pair,
        [NEEDLE],
        async () => {
          const running = transfer(pair.client, {
            host: pair.address,
            port: PORT,
            up: 10_000_000,
            down: 1000,
            timeoutMs: 30_000,
          });
          await eventually(
            () => pair.atClient.connections().some((each) => each.state === 'encrypted'),
            'it is encrypted',
          );
          const stopping = pair.atClient.stop();
          const answer = await running;
          await stopping;
          return answer;
        },
        300,
      );
      assert.ok(result.ok, JSON.stringify(result));
      assert.doesNotMatch(pair.client.run('iptables', ['-t', 'mangle', '-S']).stdout, /TCPCRYPT/);
      await pair.atClient.start();
    }),
);

test(
  'a policy file that changes holds for the next connection, and for no open one',
  { timeout: 60_000 },
  (t) =>
    withPair(
      t,
      async (pair) => {
        const { atClient } = pair;
        pair.atServer.writePolicy({ mode: 'Opportunistic' });
        await startServer(pair.server, { port: PORT });
        const once = async (): Promise<string> => {
          const encrypted = atClient.outcomes('encrypted');
          const result = await transfer(pair.client, {
            host: pair.address,
            port: PORT,
            up: 3000,
            down: 3000,
            timeoutMs: 4000,
          });
          if (!result.ok) return 'failed';
          return atClient.outcomes('encrypted') > encrypted ? 'encrypted' : 'plain';
        };
        const lasting = transfer(pair.client, {
          host: pair.address,
          port: PORT,
          up: 30_000,
          down: 3000,
          idleMs: 6000,
        });
        assert.equal(await once(), 'plain');
        assert.ok(atClient.fallbacks()['policy'] >= 1);

        atClient.writePolicy({ mode: 'Opportunistic' });
        await eventually(async () => (await once()) === 'encrypted', 'a connection is encrypted', 8000);
        assert.ok((await lasting).ok, 'the open one went on');

        atClient.writePolicy({
          mode: 'Strict',
          rules: [{ direction: 'Outbound', ports: [{ port: PORT }], mode: 'Disabled' }],
        });
        await eventually(async () => (await once()) === 'plain', 'the rule for the port holds', 8000);

        atClient.writePolicy({ mode: 'Nonsense' });
        await sleep(1000);
        assert.equal(await once(), 'plain', 'a wrong file changes nothing');
      },
      { policy: { mode: 'Disabled' } },
    ),
);

test('Strict refuses a peer without tcpcrypt, and says so', { timeout: 60_000 }, (t) =>
  withPair(
    t,
    async (pair) => {
      await startServer(pair.server, { port: PORT });
      const options = { host: pair.address, port: PORT, up: 3000, down: 3000, timeoutMs: 5000 };
      assert.ok((await transfer(pair.client, options)).ok, 'to a peer with tcpcrypt it connects');
      await pair.atServer.stop();
      const [refused] = (await transfer(pair.client, options)).connections;
      assert.equal(refused.ok, false);
      assert.equal(refused.receivedBytes, 0);
      assert.equal(pair.atClient.outcomes('refused'), 1);
      await pair.atServer.start();
    },
    { policy: { mode: 'Strict' } },
  ),
);
