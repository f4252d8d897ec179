/** Hops with a small MTU, with ICMP and without, and an MTU that changes under a connection. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Lab, requireRoot } from './support/namespaces.ts';
import { makeNarrowPath, makePath, type Path, PORT } from './support/path.ts';
import { sleep } from './support/processes.ts';
import { CACHED, ENCRYPTED, plain, scenarios } from './support/scenario.ts';
import { startTcpcrypt } from './support/tcpcrypt.ts';
import { transfer } from './support/transfer.ts';

/** The routers tell nobody that a packet was too big. */
function filterIcmp({ router, far }: Awaited<ReturnType<typeof makeNarrowPath>>): void {
  for (const host of [router, far]) {
    host.run('iptables', ['-A', 'OUTPUT', '-p', 'icmp', '-j', 'DROP']);
    host.run('ip6tables', ['-A', 'OUTPUT', '-p', 'icmpv6', '--icmpv6-type', 'packet-too-big', '-j', 'DROP']);
  }
}

/** Hosts that find out by themselves, as servers behind such paths are set up: without it plain TCP hangs too. */
function probeMtu({ client, server }: Path): void {
  for (const host of [client, server]) {
    host.sysctl('net.ipv4.tcp_mtu_probing', 2);
    host.sysctl('net.ipv4.tcp_base_mss', 512);
  }
}

scenarios([
  {
    name: 'a hop of 576 bytes that sends ICMP: the hybrid INIT1 does not pass; the next connection is encrypted',
    path: (lab) => makeNarrowPath(lab, 576),
    steps: [
      plain('init_timeout', undefined, { within: 8000 }),
      { ...ENCRYPTED, keyExchange: 'X25519' },
      CACHED,
    ],
  },
  {
    name: 'a hop of 1280 bytes that sends ICMP, IPv6: encrypted in the end',
    path: (lab) => makeNarrowPath(lab, 1280),
    family: 6,
    steps: [
      plain('init_timeout', undefined, { within: 8000 }),
      { ...ENCRYPTED, keyExchange: 'X25519' },
      CACHED,
    ],
  },
  {
    name: 'a hop of 1400 bytes that sends ICMP: encrypted at once, path MTU discovery works through the rewriter',
    path: (lab) => makeNarrowPath(lab, 1400),
    transfer: { up: 500_000, down: 500_000 },
    steps: [ENCRYPTED, CACHED],
  },
  {
    name: 'a hop of 1280 bytes, ICMP filtered: plain after the time-out, then encrypted without the hybrid exchange',
    path: async (lab) => {
      const path = await makeNarrowPath(lab, 1280);
      filterIcmp(path);
      probeMtu(path);
      return path;
    },
    // Little from the server: its kernel has taken the time-out for the round trip, and probes at that pace.
    transfer: { down: 400 },
    steps: [plain('init_timeout', undefined, { within: 12_000 }), { ...ENCRYPTED, keyExchange: 'X25519' }],
  },
  {
    name: 'a server link of 576 bytes: its MSS says so, encrypted at once',
    path: async (lab) => {
      const path = await makePath(lab);
      path.server.ip('link', 'set', path.server.device(), 'mtu', '576');
      path.router.ip('link', 'set', path.router.device(1), 'mtu', '576');
      return path;
    },
    steps: [{ ...ENCRYPTED, keyExchange: 'X25519' }, CACHED],
  },
]);

/** A transfer during which `change` is made, with tcpcrypt at both ends; it must end right and encrypted. */
async function duringTransfer(lab: Lab, path: Path, change: () => void, v6 = false): Promise<void> {
  await using client = await startTcpcrypt(path.client);
  await using server = await startTcpcrypt(path.server);
  const host = v6 ? path.server.address6() : path.server.address4();
  const running = transfer(path.client, {
    host,
    port: PORT,
    up: 2_000_000,
    down: 2_000_000,
    idleMs: 1500,
    timeoutMs: 30_000,
  });
  await sleep(1200);
  change();
  const result = await running;
  assert.ok(result.ok, `${JSON.stringify(result)} ${lab}`);
  assert.equal(client.outcomes('encrypted'), 1);
  assert.equal(server.outcomes('encrypted'), 1);
}

for (const [name, v6, mtu] of [
  ['IPv4', false, '800'],
  ['IPv6', true, '1280'],
] as const) {
  test(`the client's device MTU lowered under a live connection, ${name}`, { timeout: 60_000 }, async (t) => {
    if (!requireRoot(t)) return;
    using lab = new Lab();
    const path = await makePath(lab);
    await duringTransfer(
      lab,
      path,
      () => path.client.ip('link', 'set', path.client.device(), 'mtu', mtu),
      v6,
    );
  });
}

test('a hop gets narrower under a live connection, and tells', { timeout: 60_000 }, async (t) => {
  if (!requireRoot(t)) return;
  using lab = new Lab();
  const path = await makeNarrowPath(lab, 1500);
  await duringTransfer(lab, path, () => {
    path.router.ip('link', 'set', path.router.device(1), 'mtu', '1000');
    path.far.ip('link', 'set', path.far.device(0), 'mtu', '1000');
  });
});

test('a path MTU that another flow learnt holds for a new encrypted connection', {
  timeout: 60_000,
}, async (t) => {
  if (!requireRoot(t)) return;
  using lab = new Lab();
  const path = await makeNarrowPath(lab, 1400);
  const host = path.server.address4();
  const options = { host, port: PORT, up: 300_000, down: 300_000 };
  const before = await transfer(path.client, options);
  assert.ok(before.ok, JSON.stringify(before));
  assert.match(path.client.ip('route', 'get', host), /mtu 1400/, 'the plain flow learnt the path MTU');
  await using client = await startTcpcrypt(path.client);
  await using server = await startTcpcrypt(path.server);
  const result = await transfer(path.client, options);
  assert.ok(result.ok, JSON.stringify(result));
  assert.equal(client.outcomes('encrypted'), 1);
  assert.equal(server.outcomes('encrypted'), 1);
});
