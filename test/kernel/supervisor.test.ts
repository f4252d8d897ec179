/** The rewriter under its supervisor, as in a sidecar's container. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { build } from '../../cni/executable/testing.ts';
import { withPair } from './support/pair.ts';
import { PORT } from './support/path.ts';
import { eventually } from './support/processes.ts';
import type { Tcpcrypt } from './support/tcpcrypt.ts';
import { startServer, transfer } from './support/transfer.ts';

before(() => build());

/** How often a rewriter has said that it handles packets. */
const starts = ({ log }: Tcpcrypt): number => log.split('"msg":"ready"').length - 1;

/** Kills the rewriter; resolves when another handles packets. */
async function crash(tcpcrypt: Tcpcrypt): Promise<void> {
  const before = starts(tcpcrypt);
  process.kill(tcpcrypt.supervised, 'SIGKILL');
  await eventually(() => starts(tcpcrypt) > before, 'another rewriter', 30_000);
}

test(
  'crashes in the middle of a transfer: started again at once, no connection is lost',
  { timeout: 200_000 },
  (t) =>
    withPair(
      t,
      async ({ client, server, atClient, address }) => {
        await startServer(server, { port: PORT });
        const running = transfer(client, {
          ...{ host: address, port: PORT, up: 20_000_000, down: 20_000_000, timeoutMs: 150_000 },
          ...{ writeBytes: 60_000, pauseMs: 12 },
        });
        await eventually(
          () => atClient.connections().some(({ state }) => state === 'encrypted'),
          'encrypted',
        );
        for (let crashes = 0; crashes < 3; crashes++) {
          await crash(atClient);
          assert.equal(atClient.connections()[0]?.state, 'encrypted', 'it was restored');
        }
        const result = await running;
        assert.ok(result.ok, JSON.stringify(result));
      },
      { checkpoint: true, supervise: [] },
    ),
);

test(
  'crashes again and again: encrypted connections end, new ones are plain, then all is as before',
  { timeout: 200_000 },
  (t) =>
    withPair(
      t,
      async ({ client, server, atClient, atServer, address }) => {
        await startServer(server, { port: PORT });
        const long = transfer(client, {
          ...{ host: address, port: PORT, up: 100_000_000, down: 1000, timeoutMs: 150_000 },
          ...{ writeBytes: 60_000, pauseMs: 50 },
        });
        await eventually(
          () => atClient.connections().some(({ state }) => state === 'encrypted'),
          'encrypted',
        );
        const first = atClient.supervised;
        process.kill(first, 'SIGKILL');
        await eventually(() => ![0, first].includes(atClient.supervised), 'another one');
        process.kill(atClient.supervised, 'SIGKILL');
        await eventually(() => /1 encrypted ones were ended/.test(atClient.log), 'the pause');
        const before = starts(atClient);
        assert.equal((await long).ok, false, 'the long one ended with an error, it does not stall');
        const short = { host: address, port: PORT, up: 5000, down: 5000 };
        assert.ok((await transfer(client, short)).ok, 'a new one is plain');
        assert.equal(atServer.outcomes('plain') >= 1, true);
        await eventually(() => starts(atClient) > before, 'the end of the pause', 30_000);
        await eventually(
          async () => {
            assert.ok((await transfer(client, short)).ok);
            return atServer.outcomes('encrypted') >= 2;
          },
          'encrypted again',
          30_000,
        );
      },
      { checkpoint: true, supervise: ['--crashes', '2', '--window', '10'] },
    ),
);
