/** The rules among everything else in a namespace: loopback, forwarding, NAT, ICMP, UDP, a full conntrack table. */
import assert from 'node:assert/strict';
import { mkdtempDisposableSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ConnectionState } from '../../netfilter/marks.ts';
import { install } from '../../netfilter/namespace.ts';
import { surroundings } from '../../netfilter/surroundings.ts';
import {
  applySettings,
  conntrackFill,
  conntrackNearFull,
  LONG_TIMEOUT_SECONDS,
  MAX_GRO_BYTES,
  MAX_GSO_BYTES,
  restoreSettings,
} from '../../netfilter/sysctls.ts';
import { hooks, RawSender } from '../../sidecar/nfqueue-bindings/index.ts';
import { Lab, requireRoot } from './support/namespaces.ts';
import { Client, echo, matched, options, Responder, RulesLab, tracked } from './support/rules-lab.ts';
import { icmpError, tcpSegment } from './support/rules-packets.ts';

const { plain, asked } = ConnectionState;
const agree = { syn: 'offered', synAck: 'tcpcrypt' } as const;

test('loopback is not touched', async (t) => {
  if (!requireRoot(t)) return;
  using lab = new RulesLab({ strict: true });
  await lab.install();
  await echo(lab.a);
  for (const address of ['127.0.0.1', '::1', lab.a.address4(), lab.a.address6()]) {
    assert.equal(await new Client(lab.a, address).say('hello'), 'hello');
  }
  assert.ok(tracked(lab.a).every(({ mark }) => mark === 0));
  assert.equal(matched(lab.a, /-j NFQUEUE/), 0);
});

test('forwarded connections are not touched, the forwarding host’s own are', async (t) => {
  if (!requireRoot(t)) return;
  using lab = new Lab();
  const [a, router, b] = [lab.host('a'), lab.host('r'), lab.host('b')];
  lab.router(a, router, b);
  await install({ ...options, strict: true }, { netns: router.nsPath });
  await echo(b);
  for (const address of [b.address4(), b.address6()]) {
    assert.equal(await new Client(a, address).say('hello'), 'hello');
  }
  assert.equal(matched(router, /-j NFQUEUE/), 0);
  assert.ok(tracked(router).every(({ mark }) => mark === 0));
  using responder = await Responder.start(router, { syn: 'plain' });
  assert.equal(await new Client(router, b.address4(0)).say('hello'), 'hello');
  await responder.quiet();
  assert.equal(responder.count('setup', 'S'), 1);
});

test('UDP is not tracked where told so, and TCP and ICMP are', async (t) => {
  if (!requireRoot(t)) return;
  using lab = new RulesLab();
  const send = `const s = require('node:dgram').createSocket('udp4'); s.send('x', 53, process.argv[1], () => s.close())`;
  const count = (): number => {
    lab.a.run(process.execPath, ['-e', send, lab.b.address4()]);
    return tracked(lab.a, 53, 'udp').length;
  };
  await lab.install({ untrackOthers: true });
  assert.equal(count(), 0);
  await echo(lab.b);
  assert.equal(await new Client(lab.a, lab.b.address4()).say('hello'), 'hello');
  assert.equal(tracked(lab.a)[0]?.state, asked);
  await lab.install({ untrackOthers: false });
  assert.equal(count(), 1);
});

for (const family of [4, 6] as const) {
  test(`IPv${family}: an ICMP error about an encrypted connection is queued, about a plain one not`, async (t) => {
    if (!requireRoot(t)) return;
    using lab = new Lab();
    const [a, router, b] = [lab.host('a'), lab.host('r'), lab.host('b')];
    lab.router(a, router, b);
    // Of the second link only: a does not know that segments are too big.
    for (const [host, end] of [
      [router, 1],
      [b, 0],
    ] as const) {
      host.ip('link', 'set', host.device(end), 'mtu', '1300');
    }
    const where = { netns: a.nsPath };
    await install({ ...options, untrackOthers: true }, where);
    await applySettings(where);
    // b announces more than its link can take.
    const route = family === 4 ? [a.address4(), router.address4(1)] : [a.address6(), router.address6(1)];
    b.ip(family === 4 ? '-4' : '-6', 'route', 'add', route[0]!, 'via', route[1]!, 'advmss', '1440');
    await echo(b);
    const address = family === 4 ? b.address4() : b.address6();
    const protocol = family === 4 ? 1 : 58;
    {
      using responder = await Responder.start(a, { ...agree });
      assert.equal(await new Client(a, address).say('x'.repeat(9000)), 'x'.repeat(9000));
      const error = await responder.find((seen) => seen.protocol === protocol);
      assert.deepEqual([error?.kind, error?.state, error?.hook], ['data', 'tcpcrypt', hooks.prerouting]);
    }
    a.ip('route', 'flush', 'cache');
    a.ip('-6', 'route', 'flush', 'cache');
    using responder = await Responder.start(a, { syn: 'plain' });
    assert.equal(await new Client(a, address).say('x'.repeat(9000)), 'x'.repeat(9000));
    await responder.quiet();
    assert.ok(!responder.seen.some((seen) => seen.protocol === protocol));
  });
}

test('an ICMP error of the host’s own, over loopback, is queued, and passes when nobody listens', async (t) => {
  if (!requireRoot(t)) return;
  using lab = new RulesLab();
  await lab.install();
  const [a, b] = [lab.a.address4(), lab.b.address4()];
  const quoted = tcpSegment({
    source: a,
    sourcePort: 40001,
    destination: b,
    destinationPort: 80,
    flags: 0x10,
  });
  using sender = new RawSender({ mark: 0, netns: lab.a.nsPath });
  lab.rule('-A INPUT -i lo -p icmp');
  sender.send(icmpError(a, a, 3, 4, quoted));
  await sleep(50);
  assert.equal(matched(lab.a, /-A INPUT -i lo/), 1);
  using responder = await Responder.start(lab.a);
  sender.send(icmpError(a, a, 3, 4, quoted));
  const error = await responder.find((seen) => seen.protocol === 1);
  assert.deepEqual([error?.kind, error?.hook], ['data', hooks.prerouting]);
  await responder.quiet();
  assert.equal(responder.seen.length, 1, 'queued once, not on its way out as well');
});

test('incoming REDIRECT: connections work, and a SYN-ACK leaves under another port than its SYN came to', async (t) => {
  if (!requireRoot(t)) return;
  using lab = new RulesLab();
  await lab.install();
  lab.rule('-t nat -A PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 8080');
  await echo(lab.a, 8080);
  assert.equal(await new Client(lab.b, lab.a.address4()).say('alone'), 'alone');
  using responder = await Responder.start(lab.a, { syn: 'offered', synAck: 'plain' });
  assert.equal(await new Client(lab.b, lab.a.address4()).say('hello'), 'hello');
  await responder.quiet();
  assert.deepEqual(
    responder.seen.map(({ kind, flags, port }) => [kind, flags, port]),
    [
      ['setup', 'S', 80],
      ['setup', 'SA', 8080],
    ],
  );
  const states = tracked(lab.a).map(({ state }) => state);
  assert.deepEqual(states.sort(), [plain, asked]);
  assert.deepEqual(await surroundings({ netns: lab.a.nsPath }), {
    hasNat: true,
    otherMesh: undefined,
    mayUntrack: false,
  });
});

test('outgoing REDIRECT to a proxy and masquerading: connections work, with and without a listener', async (t) => {
  if (!requireRoot(t)) return;
  using lab = new RulesLab();
  await lab.install();
  lab.rule('-t nat -A OUTPUT -p tcp --dport 81 -j REDIRECT --to-ports 15001');
  lab.a.ip('address', 'add', '10.78.0.1/24', 'dev', lab.a.device());
  lab.rule(`-t nat -A POSTROUTING -o ${lab.a.device()} -j SNAT --to-source 10.78.0.1`);
  lab.b.ip('route', 'add', '10.78.0.0/24', 'dev', lab.b.device());
  await echo(lab.a, 15001);
  await echo(lab.b);
  const both = async (): Promise<void> => {
    assert.equal(await new Client(lab.a, lab.b.address4(), 81).say('proxied'), 'proxied');
    assert.equal(await new Client(lab.a, lab.b.address4(), 80).say('translated'), 'translated');
  };
  await both();
  using responder = await Responder.start(lab.a, { syn: 'offered', synAck: 'plain' });
  await both();
  await responder.quiet();
  assert.deepEqual(
    responder.seen.map(({ flags }) => flags),
    ['S', 'SA'],
  );
});

test('another mesh is recognised', async (t) => {
  if (!requireRoot(t)) return;
  using lab = new RulesLab();
  const where = { netns: lab.a.nsPath };
  const nothing = { hasNat: false, otherMesh: undefined, mayUntrack: true };
  assert.deepEqual(await surroundings(where), nothing);
  await lab.install({ untrackOthers: true });
  assert.deepEqual(await surroundings(where), nothing);
  lab.a.run('iptables-legacy', ['-A', 'OUTPUT', '-m', 'state', '--state', 'ESTABLISHED', '-j', 'ACCEPT']);
  assert.deepEqual(await surroundings(where), { ...nothing, mayUntrack: false });
  lab.a.run('iptables-legacy', ['-t', 'nat', '-N', 'PROXY_INIT_OUTPUT']);
  assert.equal((await surroundings(where)).otherMesh, 'linkerd');
  lab.b.run('iptables-nft', ['-t', 'nat', '-N', 'ISTIO_OUTPUT']);
  assert.equal((await surroundings({ netns: lab.b.nsPath })).otherMesh, 'istio');
});

test('settings: half-closed connections keep their entry, and all is put back', async (t) => {
  if (!requireRoot(t)) return;
  using lab = new RulesLab();
  const where = { netns: lab.a.nsPath };
  const values = (): string =>
    lab.a.run('sh', ['-c', 'cd /proc/sys/net/netfilter; grep -H "" nf_conntrack_tcp_*']).stdout;
  const before = values();
  await lab.install();
  assert.equal(lab.a.sysctl('net.netfilter.nf_conntrack_tcp_be_liberal'), '1');
  await echo(lab.b);
  const client = new Client(lab.a, lab.b.address4());
  assert.equal(await client.say('hello'), 'hello');
  client.child.stdin!.end();
  await sleep(200);
  const [entry] = tracked(lab.a);
  assert.match(entry!.line, /FIN_WAIT|CLOSE_WAIT/);
  assert.ok(entry!.timeoutSeconds > LONG_TIMEOUT_SECONDS - 60, entry!.line);
  assert.equal(lab.a.sysctl('net.netfilter.nf_conntrack_tcp_timeout_time_wait'), '120');
  await restoreSettings(where);
  assert.equal(values(), before);
  lab.a.sysctl('net.netfilter.nf_conntrack_tcp_timeout_fin_wait', 77);
  const { previous, refused } = await applySettings(where);
  assert.deepEqual(refused, []);
  await restoreSettings(where, JSON.parse(JSON.stringify(previous)));
  assert.equal(lab.a.sysctl('net.netfilter.nf_conntrack_tcp_timeout_fin_wait'), '77');
});

test('settings: super-segments stay within what netlink can carry, and limits are put back', async (t) => {
  if (!requireRoot(t)) return;
  using lab = new RulesLab();
  const where = { netns: lab.a.nsPath };
  const device = lab.a.device();
  lab.a.ip('link', 'set', 'dev', device, 'gso_max_size', '200000', 'gro_max_size', '180000');
  const limits = (): number[] => {
    const [link] = JSON.parse(lab.a.ip('-d', '-j', 'link', 'show', device));
    return [link.gso_max_size, link.gro_max_size];
  };
  const { previous, refused } = await applySettings(where);
  assert.deepEqual(refused, []);
  assert.deepEqual(limits(), [MAX_GSO_BYTES, MAX_GRO_BYTES]);
  assert.deepEqual((await applySettings(where)).previous, { conntrack: {}, devices: {} });
  await restoreSettings(where, previous);
  assert.deepEqual(limits(), [200_000, 180_000]);
});

test('a full table: connections that have an entry go on, and the namespace’s own fill can be seen', async (t) => {
  if (!requireRoot(t)) return;
  using lab = new RulesLab();
  const where = { netns: lab.a.nsPath };
  await lab.install();
  await echo(lab.b);
  using _responder = await Responder.start(lab.a, { ...agree });
  const client = new Client(lab.a, lab.b.address4());
  assert.equal(await client.say('before'), 'before');
  const max = Number(lab.a.sysctl('net.netfilter.nf_conntrack_max'));
  if (max > 300_000) return t.skip(`nf_conntrack_max is ${max}: too many entries to make`);
  // Entries that the kernel does not throw out early: assured ones, of established connections.
  const flows: string[] = [];
  for (let i = 0; i <= max; i++) {
    const source = `10.${100 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`;
    flows.push(
      `-I -p tcp -s ${source} -d 10.9.9.9 --sport 1 --dport 2 --state ESTABLISHED -u SEEN_REPLY,ASSURED -t 600`,
    );
  }
  using folder = mkdtempDisposableSync(join(tmpdir(), 'tcpcrypt-'));
  const file = join(folder.path, 'flows');
  writeFileSync(file, `${flows.join('\n')}\n`);
  lab.a.run('conntrack', ['-R', file], { allowFailure: true });
  const fill = await conntrackFill(where);
  assert.ok(conntrackNearFull(fill), JSON.stringify(fill));
  // The kernel drops what would need a new entry; that is why no new connection is offered anything then.
  const late = new Client(lab.a, lab.b.address4(), 80, 40001);
  assert.equal(await late.connected(500), undefined);
  assert.equal(await client.say('after'), 'after');
  assert.equal(conntrackNearFull(await conntrackFill({ netns: lab.b.nsPath })), false);
});
