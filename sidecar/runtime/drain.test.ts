import assert from 'node:assert/strict';
import { test } from 'node:test';
import { builtInPolicy } from '../../policy/testing.ts';
import type { ConnectionInfo, SocketInfo } from '../rewriter/types.ts';
import { drainingPolicy, unfinished, untilFinished } from './drain.ts';
import { encrypted } from './testing.ts';

const socket: SocketInfo = { local: encrypted.local, remote: encrypted.remote, state: 1, sendQueueBytes: 0 };

test('leaving: data that is not acknowledged counts where the connection is encrypted or on the way there', async () => {
  const count = (sockets: SocketInfo[], ...connections: ConnectionInfo[]) =>
    unfinished({
      sockets: () => sockets,
      async *connections() {
        yield connections;
      },
    });
  const busy = { ...socket, sendQueueBytes: 1 };
  assert.equal(await count([busy], encrypted), 1);
  assert.equal(await count([busy], { ...encrypted, state: 'setup' }), 1);
  assert.equal(await count([socket], encrypted), 0);
  assert.equal(await count([busy], { ...encrypted, state: 'plain' }), 0);
  assert.equal(await count([busy], { ...encrypted, remote: '10.0.0.3:1' }), 0);
  assert.equal(await count([{ ...busy, state: 10 }], encrypted), 0);
});

test('leaving: as soon as all is acknowledged, or when the grace is over', async () => {
  let looks = 0;
  const part = {
    sockets: () => [{ ...socket, sendQueueBytes: looks++ < 2 ? 1 : 0 }],
    async *connections() {
      yield [encrypted];
    },
  };
  assert.equal(await untilFinished(part, 10_000), 0);
  assert.equal(looks, 3);
  const start = performance.now();
  assert.equal(await untilFinished({ ...part, sockets: () => [{ ...socket, sendQueueBytes: 9 }] }, 150), 1);
  assert.ok(performance.now() - start >= 150);
});

test('leaving: new connections go plain, except under Strict', () => {
  const modes = { 1: 'Opportunistic', 2: 'Strict', 3: 'Audit', 4: 'Disabled' } as const;
  const policy = drainingPolicy({
    ...builtInPolicy(),
    decide: (_direction, port) => ({ mode: modes[port as 1], authentication: 'Required' }),
  });
  const mode = (port: number) => policy.decide('Inbound', port, '10.0.0.1').mode;
  assert.deepEqual([1, 2, 3, 4].map(mode), ['Disabled', 'Strict', 'Disabled', 'Disabled']);
});
