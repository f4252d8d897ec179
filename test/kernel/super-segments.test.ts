/**
 * The aggregate MAC on the real kernel (wire.md section 6): super-segments as TSO and GSO make them, GRO and other hops
 * change them, loss tears them. Each transfer is checked byte by byte, and nothing of it was on the wire in clear.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { capture } from './support/capture.ts';
import { total } from './support/metrics.ts';
import { startMiddlebox } from './support/middlebox.ts';
import { type Host, Lab, requireRoot } from './support/namespaces.ts';
import { makeNarrowPath, makePath, type Path, PORT } from './support/path.ts';
import { NEEDLE } from './support/pattern.ts';
import type { ClientOptions } from './support/peer.ts';
import { eventually, sleep } from './support/processes.ts';
import { startTcpcrypt, type Tcpcrypt } from './support/tcpcrypt.ts';
import { transfer } from './support/transfer.ts';

const AGGREGATE = 'AES-128-CTR-GMAC-AGGREGATE';
const PER_SEGMENT = 'AES-128-CTR-GMAC';
/** Enough for the window to open up to large super-segments. */
const BYTES = 3_000_000;
const MSS = 1448;

interface Ends {
  readonly client: Tcpcrypt;
  readonly server: Tcpcrypt;
}

interface Plan {
  readonly path?: (lab: Lab) => Promise<Path>;
  readonly prepare?: (path: Path) => void;
  readonly transfer?: Partial<ClientOptions>;
  readonly family?: 4 | 6;
  readonly policies?: readonly [object, object];
  /** While the transfer is going on. */
  readonly during?: (path: Path, ends: Ends) => Promise<void> | void;
  /** Whether super-segments came to the server's packet filter whole. */
  readonly whole?: boolean;
  /** Most data packets carry at least so much. */
  readonly fullBytes?: number;
  readonly check?: (ends: Ends, path: Path) => Promise<void> | void;
}

const packets = (end: Tcpcrypt, queue: string): number =>
  total(end.metrics(), 'tcpcrypt_packets_total', { queue });
const failures = (end: Tcpcrypt): number =>
  ['tcpcrypt_packet_errors_total', 'tcpcrypt_queue_dropped_packets_total'].reduce(
    (sum, name) => sum + total(end.metrics(), name),
    0,
  );
/** Data per packet that came from the super-segment queue and the one of single segments. */
const payloadPerPacket = (end: Tcpcrypt): number =>
  total(end.metrics(), 'tcpcrypt_payload_bytes_total') /
  (packets(end, 'super_segment') + packets(end, 'data'));

function superSegments(name: string, plan: Plan): void {
  test(name, { timeout: 120_000 }, (t) => run(t, plan));
}

async function run(t: TestContext, plan: Plan): Promise<void> {
  if (!requireRoot(t)) return;
  using lab = new Lab();
  const path = await (plan.path ?? makePath)(lab);
  plan.prepare?.(path);
  const [forClient, forServer] = plan.policies ?? [{}, {}];
  await using client = await startTcpcrypt(path.client, { policy: forClient });
  await using server = await startTcpcrypt(path.server, { policy: forServer });
  const host = plan.family === 6 ? path.server.address6() : path.server.address4();
  const tap = await capture(path.server, { filter: `tcp port ${PORT}` });
  const going = transfer(path.client, {
    host,
    port: PORT,
    up: BYTES,
    down: BYTES,
    timeoutMs: 60_000,
    ...plan.transfer,
  });
  await plan.during?.(path, { client, server });
  const result = await going;
  const captured = await tap.stop();
  t.diagnostic(
    [client, server].map((end) => `${Math.round(payloadPerPacket(end))} bytes a packet`).join(', '),
  );
  assert.ok(result.ok, JSON.stringify(result.connections.filter((each) => !each.ok)));
  assert.ok(captured.dataPackets > 0, 'the capture holds no data at all');
  assert.equal(captured.find(NEEDLE), undefined, 'plaintext was on the wire');
  const whole = captured.packets.filter(({ data }) => data.length > 2 * MSS).length;
  if (plan.whole) assert.ok(whole > 0, 'no super-segment came whole');
  const sizes = captured.packets.map(({ data }) => data.length).filter((bytes) => bytes > 0);
  const full = sizes.filter((bytes) => bytes >= (plan.fullBytes ?? 0)).length;
  assert.ok(full > sizes.length / 2, `${full} of ${sizes.length} data packets are full`);
  const connections = plan.transfer?.connections ?? 1;
  for (const end of [client, server]) {
    assert.equal(end.outcomes('encrypted'), connections);
    assert.equal(end.outcomes('plain'), 0);
    assert.equal(failures(end), 0);
    assert.equal(total(end.metrics(), 'tcpcrypt_mac_failures_total'), 0);
  }
  await plan.check?.({ client, server }, path);
}

/** Both ends of each of a path's links. */
function setOffload(hosts: readonly Host[], features: Readonly<Record<string, boolean>>): void {
  for (const host of hosts) {
    for (const [i] of host.ends.entries())
      for (const [feature, on] of Object.entries(features)) host.offload(on, i, [feature]);
  }
}

const all = ({ client, router, server }: Path): Host[] => [client, router, server];

for (const [tso, gso, gro] of [
  [true, true, false],
  [true, true, true],
  [false, true, false],
  [false, true, true],
  [false, false, false],
  [false, false, true],
] as const) {
  const words = Object.entries({ TSO: tso, GSO: gso, GRO: gro }).map(
    ([name, on]) => `${name} ${on ? 'on' : 'off'}`,
  );
  superSegments(words.join(', '), {
    prepare: (path) => setOffload(all(path), { tso, gso, gro }),
    // Where the hops cut and nobody joins, segments are collected by the receiver.
    whole: tso || gro,
  });
}

superSegments('no offload at all, checksums neither', {
  prepare: (path) => setOffload(all(path), { tso: false, gso: false, gro: false, tx: false, rx: false }),
});

superSegments('IPv6', { family: 6, whole: true });

superSegments('eight connections at once', {
  transfer: { connections: 8, up: 1_000_000, down: 1_000_000 },
  whole: true,
});

superSegments('a link of 9000 bytes', {
  path: (lab) => makePath(lab, { mtu: 9000 }),
  whole: true,
});

superSegments('a client link of 9000 bytes, and a server link of 1500: the first connection already', {
  path: async (lab) => {
    const path = await makePath(lab, { mtu: 9000 });
    path.server.ip('link', 'set', path.server.device(), 'mtu', '1500');
    path.router.ip('link', 'set', path.router.device(1), 'mtu', '1500');
    return path;
  },
});

superSegments('a hop that cuts super-segments into smaller ones, and one that joins again', {
  prepare: ({ router, server }) => {
    router.offload(true, 0, ['gro']);
    router.ip('link', 'set', router.device(1), 'gso_max_segs', '3');
    router.ip('link', 'set', router.device(0), 'gso_max_segs', '3');
    server.offload(true, 0, ['gro']);
  },
});

superSegments('a hop with a smaller MTU, which tells: segments fill it', {
  path: (lab) => makeNarrowPath(lab, 1400),
  fullBytes: 1300,
});

superSegments('a hop with a smaller MTU that joins what comes, and cuts it anew', {
  path: async (lab) => {
    const path = await makeNarrowPath(lab, 1400);
    setOffload([path.router, path.far, path.client, path.server], { gro: true, tso: false });
    return path;
  },
});

for (const [family, mtus] of [
  [4, ['1000', '1500']],
  [6, ['1280', '1500']],
] as const) {
  superSegments(`the MTU of both links lowered and raised again under the connection, IPv${family}`, {
    family,
    transfer: { idleMs: 3000 },
    during: async ({ client, router, server }) => {
      for (const mtu of mtus) {
        await sleep(1200);
        for (const host of [client, router, server])
          for (const [i] of host.ends.entries()) host.ip('link', 'set', host.device(i), 'mtu', mtu);
      }
    },
  });
}

for (const [name, kinds, works] of [
  ['lost', ['loss,percent=2,after=12'], 'lost'],
  ['reordered', ['reorder,percent=10,delayMs=3'], 'reordered'],
  ['duplicated', ['duplicate,percent=10'], 'duplicated'],
  ['cut into smaller ones', ['split,bytes=700'], 'split'],
] as const) {
  test(`segments of super-segments ${name}`, { timeout: 120_000 }, async (t) => {
    let box: Awaited<ReturnType<typeof startMiddlebox>> | undefined;
    await run(t, {
      path: async (lab) => {
        const path = await makePath(lab);
        box = await startMiddlebox(path.router, kinds);
        return path;
      },
      // An INIT of the hybrid exchange would be cut too.
      policies: [{ algorithms: { keyExchanges: ['X25519'] } }, { algorithms: { keyExchanges: ['X25519'] } }],
      transfer: { up: 1_000_000, down: 1_000_000 },
      check: async ({ client, server }) => {
        const counters = await box!.stop();
        assert.ok(counters[works]! > 0, JSON.stringify(counters));
        // The queue without GSO is where a sender goes that sees losses.
        if (name === 'lost') for (const end of [client, server]) assert.ok(packets(end, 'data') > 20);
      },
    });
  });
}

test('after losses, back to super-segments on a path that is clean again', {
  timeout: 120_000,
}, async (t) => {
  let before = 0;
  await run(t, {
    transfer: { up: 20_000_000, down: 1000, idleMs: 2500 },
    during: async ({ router }, { client }) => {
      const box = await startMiddlebox(router, ['loss,percent=3,after=12']);
      await sleep(1500);
      await box.stop();
      assert.ok(packets(client, 'data') > 20, 'single segments meanwhile');
      before = packets(client, 'super_segment');
    },
    whole: true,
    check: ({ client }) => assert.ok(packets(client, 'super_segment') > before + 20),
  });
});

superSegments('congestion marks on some segments: ECE and CWR come and go', {
  prepare: ({ client, router, server }) => {
    for (const host of [client, server]) host.sysctl('net.ipv4.tcp_ecn', 1);
    const marks =
      '-p tcp --tcp-flags SYN NONE -m length --length 1000:65535 -m statistic --mode nth --every 40 --packet 0';
    const rule = `-t mangle -A FORWARD ${marks} -j TOS --set-tos 0x03/0x03`;
    router.run('iptables', rule.split(' '));
  },
  check: (_ends, { client, router }) => {
    assert.match(router.run('iptables', ['-t', 'mangle', '-vnL', 'FORWARD']).stdout, /[1-9]\d* .* TOS set/);
    const echoed = client.run('nstat', ['-asz', 'TcpExtTCPDeliveredCE', 'TcpExtTCPECNRejected']).stdout;
    assert.match(echoed, /TCPDeliveredCE +[1-9]/, echoed);
  },
});

for (const [who, policies] of [
  ['client', [{ algorithms: { suites: [PER_SEGMENT] } }, {}]],
  ['server', [{}, { algorithms: { suites: [PER_SEGMENT] } }]],
] as const) {
  superSegments(`a ${who} without aggregate suites: each segment has its MAC`, {
    policies,
    transfer: { up: 500_000, down: 500_000 },
    check: ({ client, server }) => {
      for (const end of [client, server]) {
        assert.equal(packets(end, 'super_segment'), 0);
        assert.ok(packets(end, 'data') > 300);
      }
    },
  });
}

for (const suite of [
  AGGREGATE,
  'AES-128-CTR-HMAC-SHA256-AGGREGATE',
  'AES-256-CTR-HMAC-SHA256-AGGREGATE',
  'CHACHA20-HMAC-SHA256-AGGREGATE',
  'AES-128-CTR-CMAC-AGGREGATE',
]) {
  const policy = { algorithms: { suites: [suite] } };
  superSegments(suite, {
    policies: [policy, policy],
    transfer: { up: 1_000_000, down: 1_000_000, idleMs: 1000 },
    during: async (_path, { client }) => {
      const connection = await eventually(
        () => client.connections().find(({ state }) => state === 'encrypted'),
        'an encrypted connection',
      );
      assert.equal(connection.suite, suite);
    },
    whole: true,
  });
}
