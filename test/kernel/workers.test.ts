/** Several packet threads: connections spread by their addresses, one truth outside, and nothing lost by a restart. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { markLayout, workerOf } from '../../netfilter/marks.ts';
import type { Host } from './support/namespaces.ts';
import { assertAllEncrypted, type Pair, secretly, withPair } from './support/pair.ts';
import { PORT } from './support/path.ts';
import { NEEDLE } from './support/pattern.ts';
import { eventually, finished, sleep } from './support/processes.ts';
import { startServer, transfer } from './support/transfer.ts';

const args = ['--workers', '2'];

/** More addresses of the server's, of which the client knows. */
function addresses({ client, server }: Pair, count: number): string[] {
  const [, net, last] = /^(.*\.)(\d+)$/.exec(server.address4())!;
  const found = Array.from({ length: count }, (_, i) => `${net}${Number(last) + 1 + i}`);
  for (const each of found) {
    server.ip('address', 'add', `${each}/32`, 'dev', server.device());
    client.ip('route', 'add', `${each}/32`, 'dev', client.device());
  }
  return found;
}

/** The worker of each connection to `address`, by its conntrack entry. */
function workersOf(host: Host, address: string): number[] {
  const entries = host.run('conntrack', ['-L', '-p', 'tcp', '--orig-dst', address]).stdout;
  return [...entries.matchAll(/ mark=(\d+)/g)].map(([, mark]) => workerOf(markLayout(), Number(mark)));
}

test(
  'connections spread over workers by address, all encrypted, resumed and listed',
  { timeout: 120_000 },
  (t) =>
    withPair(
      t,
      async (pair) => {
        const { atClient, atServer, client, server } = pair;
        await startServer(server, { port: PORT });
        const hosts = addresses(pair, 16);
        const once = async (host: string): Promise<void> => {
          const result = await transfer(client, { host, port: PORT, up: 20_000, down: 20_000 });
          assert.ok(result.ok, JSON.stringify(result));
        };
        for (let i = 0; i < hosts.length; i += 4) {
          await Promise.all(
            hosts.slice(i, i + 4).map(async (host) => {
              await once(host);
              await once(host);
            }),
          );
        }
        const count = hosts.length;
        assertAllEncrypted(pair, 2 * count);
        for (const each of [atClient, atServer]) {
          assert.equal(each.outcomes('encrypted', { handshake: 'full' }), count);
          assert.equal(each.outcomes('encrypted', { handshake: 'cached' }), count);
        }
        for (const host of [client, server]) {
          const workers = hosts.map((address) => workersOf(host, address));
          assert.ok(
            workers.every(([first, second]) => first !== undefined && first === second),
            JSON.stringify(workers),
          );
          assert.deepEqual([...new Set(workers.flat())].sort(), [0, 1]);
        }
        const held = hosts.map((host) =>
          transfer(client, { host, port: PORT, up: 2000, down: 2000, idleMs: 4000 }),
        );
        const live = () => atServer.connections().filter(({ state }) => state === 'encrypted');
        await eventually(() => live().length === count, 'all are listed', 20_000);
        assert.deepEqual(
          live()
            .map(({ local }) => local.replace(/:\d+$/, ''))
            .sort(),
          hosts.toSorted(),
        );
        for (const result of await Promise.all(held)) assert.ok(result.ok, JSON.stringify(result));
      },
      { args },
    ),
);

test(
  'workers killed and started again, and conntrack emptied: no connection is lost, none in clear',
  {
    timeout: 120_000,
  },
  (t) =>
    withPair(
      t,
      async (pair) => {
        const { atServer, client, server } = pair;
        await startServer(server, { port: PORT });
        const hosts = addresses(pair, 6);
        await secretly(
          pair,
          [NEEDLE],
          async () => {
            const running = hosts.map((host) =>
              transfer(client, {
                ...{ host, port: PORT, up: 3_000_000, down: 3_000_000, timeoutMs: 60_000 },
                ...{ writeBytes: 15_000, pauseMs: 30 },
              }),
            );
            const encrypted = () =>
              atServer.connections().filter(({ state }) => state === 'encrypted').length;
            await eventually(() => encrypted() === hosts.length, 'all are encrypted', 20_000);
            await atServer.kill();
            await sleep(300);
            await atServer.start();
            assert.equal(encrypted(), hosts.length, 'all were restored');
            for (let i = 0; i < 3; i++) {
              server.run('conntrack', ['-D', '-p', 'tcp', '--dport', `${PORT}`], { allowFailure: true });
              await sleep(300);
            }
            for (const result of await Promise.all(running)) assert.ok(result.ok, JSON.stringify(result));
          },
          300,
        );
      },
      { args, checkpoint: true },
    ),
);

test(
  'another number of workers does not take back connections; once they have ended it starts',
  {
    timeout: 60_000,
  },
  (t) =>
    withPair(
      t,
      async (pair) => {
        const { atServer, client, server, address } = pair;
        await startServer(server, { port: PORT });
        const running = transfer(client, {
          ...{ host: address, port: PORT, up: 600_000, down: 1000, timeoutMs: 40_000 },
          ...{ writeBytes: 2000, pauseMs: 25 },
        });
        await eventually(
          () => atServer.connections().some(({ state }) => state === 'encrypted'),
          'it is encrypted',
        );
        await atServer.kill();
        const others = (): Promise<{ stderr: string; code: number | null }> => {
          const launcher = new URL('../../bin/tcpcrypt', import.meta.url).pathname;
          const state = join(atServer.folder, 'state');
          const where = ['--state-dir', state, '--api-socket', 'none', '--metrics-listen', 'none'];
          return finished(server.spawn(launcher, ['run', '--workers', '3', ...where]), 20_000);
        };
        const { stderr, code } = await others();
        assert.equal(code, 1, stderr);
        assert.match(stderr, /ERR_TCPCRYPT_STATE_DIR/);
        assert.match(stderr, /1 connections of another number of workers/);
        await atServer.start();
        const result = await running;
        assert.ok(result.ok, JSON.stringify(result));
        await eventually(
          () => atServer.connections().every(({ state }) => state !== 'encrypted'),
          'it has ended',
          20_000,
        );
        await atServer.stop();
        const state = join(atServer.folder, 'state');
        assert.deepEqual(
          readdirSync(state)
            .filter((name) => name.startsWith('connections'))
            .sort(),
          ['connections-1-of-2.log', 'connections-2-of-2.log'],
        );
        await atServer.start();
      },
      { args, checkpoint: true },
    ),
);
