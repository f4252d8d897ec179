import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { builtInPolicy } from '../../policy/evaluate.ts';
import type { ConnectionInfo, SocketInfo } from '../rewriter/types.ts';
import { connectionsTable } from './connections-table.ts';
import { drainingPolicy, unfinished, untilFinished } from './drain.ts';
import { parseQueueStatistics } from './kernel-state.ts';
import { Listings } from './listings.ts';
import type { FromPacketThread } from './messages.ts';
import { createMetricsServer, listenOnPort } from './metrics-server.ts';
import { isLinkLocal, isSyn, payloadBytes } from './packet-fields.ts';
import { requireCapabilities } from './privileges.ts';
import { encrypted, plain } from './testing.ts';

test('the table of connections: encrypted first, columns in line, nothing at line ends', () => {
  const now = Date.parse('2026-01-01T01:01:01Z');
  const shown = [plain, encrypted].map(({ openedAtMs: _, ...rest }) => ({
    ...rest,
    openedAt: '2026-01-01T00:00:00Z',
  }));
  assert.equal(
    connectionsTable(shown, now),
    `ROLE       LOCAL           REMOTE           STATE                     KEY EXCHANGE    SUITE             HANDSHAKE  AUTH  AGE   IN       OUT   SESSION ID
C active   10.0.0.1:40000  10.0.0.2:443     encrypted                 X25519MLKEM768  AES-128-CTR-GMAC  full       yes   1h1m  1.5 KiB  10 B  ${'ab'.repeat(32)}
S passive  [fd00::1]:80    [fd00::2]:40001  plain (peer_unsupported)  -               -                 -          no    1h1m  0 B      0 B   -
`,
  );
  assert.equal(connectionsTable([], now).split('\n').length, 2);
});

test('a list is made a few connections at a time, one list after the other', () => {
  const many: ConnectionInfo[] = Array.from({ length: 300 }, (_, i) => ({
    ...encrypted,
    local: `10.0.0.1:${i}`,
  }));
  const listings = new Listings(() => many.values());
  const posted: FromPacketThread[] = [];
  listings.add({ id: 1 });
  listings.add({ id: 2, local: '10.0.0.1:299' });
  listings.step((message) => posted.push(message));
  assert.deepEqual(
    posted.map((message) => message.kind),
    ['connections'],
  );
  while (listings.busy) listings.step((message) => posted.push(message));
  const found = (id: number) =>
    posted.flatMap((message) =>
      message.kind === 'connections' && message.id === id ? message.connections : [],
    );
  assert.deepEqual(found(1), many);
  assert.deepEqual(found(2), [many[299]]);
  assert.deepEqual(
    posted.filter(({ kind }) => kind === 'done'),
    [
      { kind: 'done', id: 1 },
      { kind: 'done', id: 2 },
    ],
  );
});

test('a list that fails is answered, and the next one goes on', () => {
  let fails = true;
  const listings = new Listings(() => {
    if (!fails) return [encrypted].values();
    fails = false;
    return { next: () => assert.fail('a bug') };
  });
  const posted: FromPacketThread[] = [];
  listings.add({ id: 1 });
  listings.add({ id: 2 });
  while (listings.busy) listings.step((message) => posted.push(message));
  assert.match((posted[0] as { error: string }).error, /a bug/);
  assert.deepEqual(
    posted.slice(1).map(({ kind }) => kind),
    ['connections', 'done'],
  );
});

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

test("the kernel's queue statistics", () => {
  const text = ` 5440   4105     3 2 65531    10     2     1234  1
 5441  -4106     0 2 65531     0     0        0  1
`;
  assert.deepEqual(
    [...parseQueueStatistics(text)],
    [
      [5440, 12],
      [5441, 0],
    ],
  );
  assert.deepEqual([...parseQueueStatistics('')], []);
});

test('fields of packets: hostile bytes give nothing', () => {
  for (let length = 0; length < 80; length++) {
    for (const fill of [0x00, 0x45, 0x4f, 0x60, 0x66, 0xff]) {
      const bytes = new Uint8Array(length).fill(fill);
      assert.equal(typeof isSyn(bytes), 'boolean');
      assert.equal(typeof isLinkLocal(bytes), 'boolean');
      assert.ok(payloadBytes(bytes) >= 0 && payloadBytes(bytes) <= length);
    }
  }
  assert.equal(payloadBytes(undefined), 0);
});

test('what may be done: both capabilities, or an error that names what is missing', () => {
  requireCapabilities('CapPrm:\t0\nCapEff:\t0000000000003000\n');
  assert.throws(() => requireCapabilities('CapEff:\t0000000000001000\n'), {
    code: 'ERR_TCPCRYPT_NOT_ROOT',
    message: /NET_RAW is missing/,
  });
  assert.throws(() => requireCapabilities(''), { message: /NET_ADMIN and NET_RAW/ });
});

test('the metrics port: /metrics, /healthz, /readyz, and nothing else', async (t) => {
  const state = { healthy: true, ready: true };
  const source = {
    text: async () => 'tcpcrypt_x 1\n',
    healthy: () => state.healthy,
    ready: () => state.ready,
  };
  const server = createMetricsServer(source, assert.fail);
  await listenOnPort(server, { host: '::', port: 0 });
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const status = async (path: string, method = 'GET') =>
    (await fetch(`http://127.0.0.1:${port}${path}`, { method })).status;
  const answer = await fetch(`http://127.0.0.1:${port}/metrics`);
  assert.match(answer.headers.get('content-type')!, /^text\/plain; version=0\.0\.4/);
  assert.equal(await answer.text(), 'tcpcrypt_x 1\n');
  assert.deepEqual([await status('/healthz'), await status('/readyz')], [200, 200]);
  state.ready = false;
  assert.deepEqual([await status('/healthz'), await status('/readyz')], [200, 503]);
  state.healthy = false;
  assert.deepEqual([await status('/healthz'), await status('/readyz')], [503, 503]);
  assert.deepEqual([await status('/'), await status('/metrics', 'POST')], [404, 405]);
  const second = createMetricsServer(source, assert.fail);
  await assert.rejects(listenOnPort(second, { host: '::', port }), { code: 'EADDRINUSE' });
  server.close();
  await once(server, 'close');
});
