/** The table of architecture.md, "Two kinds of queue in a pod", row by row on the real kernel, in both variants. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ConnectionState, DEFAULT_INJECT_MARK } from '../../netfilter/marks.ts';
import { install } from '../../netfilter/namespace.ts';
import { hooks, RawSender } from '../../sidecar/nfqueue-bindings/index.ts';
import { requireRoot } from './support/namespaces.ts';
import { Client, echo, matched, Responder, RulesLab, tracked } from './support/rules-lab.ts';
import { tcpSegment } from './support/rules-packets.ts';
import type { Seen } from './support/rules-responder.ts';

const { plain, tcpcrypt, superSegment, offered, asked } = ConnectionState;
/** Long enough for several retransmissions. */
const STALL_MS = 1000;

const brief = ({ kind, flags, state }: Seen) => [kind, flags, state];

/** A connection in `asked`: the listener decides at the next packet, and the connection is plain for good. */
async function assertDecidedLater(lab: RulesLab, client: Client): Promise<void> {
  assert.equal(await client.say('nobody'), 'nobody');
  assert.equal(tracked(lab.a)[0]?.state, asked);
  using late = await Responder.start(lab.a, { syn: 'offered', synAck: 'tcpcrypt' });
  assert.equal(await client.say('somebody'), 'somebody');
  assert.equal(await client.say('still here'), 'still here');
  await late.quiet();
  assert.deepEqual(late.seen.map(brief), [['data', 'A', 'none']]);
  assert.equal(tracked(lab.a)[0]?.state, plain);
  await late.stop();
  assert.equal(await client.say('nobody again'), 'nobody again');
  assert.equal(tracked(lab.a)[0]?.state, plain);
}

for (const variant of ['nft', 'legacy'] as const) {
  test(`${variant}: nobody listens: a SYN passes, and its connection stays plain for good`, async (t) => {
    if (!requireRoot(t)) return;
    using lab = new RulesLab({}, variant);
    await lab.install();
    await echo(lab.b);
    const client = new Client(lab.a, lab.b.address4());
    assert.equal(await client.connected(), 'connected');
    assert.equal(tracked(lab.a)[0]?.state, asked);
    await assertDecidedLater(lab, client);
  });

  test(`${variant}: nobody listens: an incoming connection passes, and stays plain for good`, async (t) => {
    if (!requireRoot(t)) return;
    using lab = new RulesLab({}, variant);
    await lab.install();
    await echo(lab.a);
    const client = new Client(lab.b, lab.a.address6());
    assert.equal(await client.connected(), 'connected');
    await assertDecidedLater(lab, client);
  });

  test(`${variant}: a listener that is stuck: the queue fails open, and the connection is plain for good`, async (t) => {
    if (!requireRoot(t)) return;
    using lab = new RulesLab({}, variant);
    await lab.install();
    await echo(lab.b);
    using _stuck = await Responder.start(lab.a, { stuck: true, kinds: ['setup'] });
    const held = new Client(lab.a, lab.b.address4(), 80, 40001);
    assert.equal(await held.connected(300), undefined);
    const client = new Client(lab.a, lab.b.address4(), 80, 40002);
    const state = () => tracked(lab.a).find(({ line }) => line.includes('sport=40002'))?.state;
    assert.equal(await client.connected(), 'connected');
    assert.equal(await client.say('open'), 'open');
    assert.equal(state(), asked);
    using data = await Responder.start(lab.a, { kinds: ['data'] });
    for (const text of ['queued', 'plain']) assert.equal(await client.say(text), text);
    await data.quiet();
    assert.deepEqual(data.seen.map(brief), [['data', 'A', 'none']]);
    assert.equal(state(), plain);
  });

  test(`${variant}: passed by unasked: each repeated SYN is queued, and says so`, async (t) => {
    if (!requireRoot(t)) return;
    using lab = new RulesLab({}, variant);
    await lab.install();
    lab.b.run('iptables-nft', ['-A', 'INPUT', '-p', 'tcp', '-j', 'DROP']);
    const client = new Client(lab.a, lab.b.address4(), 80, 40001);
    assert.equal(await client.connected(500), undefined);
    assert.equal(tracked(lab.a)[0]?.state, asked);
    using responder = await Responder.start(lab.a, { syn: 'hold' });
    assert.deepEqual(brief((await responder.find(() => true))!), ['setup', 'S', 'asked before']);
    lab.b.run('iptables-nft', ['-t', 'raw', '-A', 'PREROUTING', '-p', 'tcp']);
    using sender = new RawSender({ mark: 0, netns: lab.a.nsPath });
    const there = {
      source: lab.a.address4(),
      sourcePort: 40001,
      destination: lab.b.address4(),
      destinationPort: 80,
    };
    assert.ok(sender.send(tcpSegment({ ...there, flags: 0x02 })));
    await responder.quiet(300);
    assert.deepEqual(brief(responder.seen[1]!), ['setup', 'S', 'asked before']);
    assert.equal(matched(lab.b, /-A PREROUTING -p tcp$/), 0);
    assert.equal(tracked(lab.a)[0]?.state, asked);
  });

  test(`${variant}: while a first SYN waits conntrack has no entry: its double is queued as a first one`, async (t) => {
    if (!requireRoot(t)) return;
    using lab = new RulesLab({}, variant);
    await lab.install();
    await echo(lab.a);
    lab.b.run('iptables-nft', ['-A', 'INPUT', '-p', 'tcp', '-j', 'DROP']);
    lab.rule('-A INPUT -p tcp --tcp-flags SYN,ACK SYN');
    const answers = { syn: 'offered', synAck: 'offered', other: 'drop' } as const;
    using responder = await Responder.start(lab.a, answers);
    responder.child.kill('SIGSTOP');
    using sender = new RawSender({ mark: 0, netns: lab.b.nsPath });
    const tuple = {
      source: lab.b.address4(),
      sourcePort: 40001,
      destination: lab.a.address4(),
      destinationPort: 80,
    };
    for (const flags of [0x02, 0x02, 0x10]) assert.ok(sender.send(tcpSegment({ ...tuple, flags })));
    await sleep(50);
    assert.equal(matched(lab.a, /-A INPUT .*SYN/, variant), 0);
    assert.deepEqual(tracked(lab.a), []);
    responder.child.kill('SIGCONT');
    await responder.quiet();
    assert.deepEqual(responder.seen.slice(0, 3).map(brief), [
      ['setup', 'S', 'none'],
      ['setup', 'S', 'none'],
      ['data', 'A', 'none'],
    ]);
    assert.equal(matched(lab.a, /-A INPUT .*SYN/, variant), 2);
    assert.deepEqual(
      tracked(lab.a).map(({ state }) => state),
      [offered],
    );
  });

  test(`${variant}: while a SYN-ACK waits its double is asked about, and nothing else passes`, async (t) => {
    if (!requireRoot(t)) return;
    using lab = new RulesLab({}, variant);
    await lab.install();
    await echo(lab.b);
    using responder = await Responder.start(lab.a, { syn: 'offered', synAck: 'hold', other: 'hold' });
    const client = new Client(lab.a, lab.b.address4(), 80, 40001);
    assert.ok(await responder.find(({ flags }) => flags === 'SA'));
    assert.equal(tracked(lab.a)[0]?.state, asked);
    using sender = new RawSender({ mark: 0, netns: lab.b.nsPath });
    const back = {
      source: lab.b.address4(),
      sourcePort: 80,
      destination: lab.a.address4(),
      destinationPort: 40001,
    };
    for (const flags of [0x12, 0x10]) assert.ok(sender.send(tcpSegment({ ...back, flags })));
    assert.equal(await client.connected(300), undefined);
    assert.deepEqual(responder.seen.slice(0, 4).map(brief), [
      ['setup', 'S', 'none'],
      ['setup', 'SA', 'asked before'],
      ['setup', 'SA', 'asked before'],
      ['data', 'A', 'none'],
    ]);
  });

  test(`${variant}: passed by unasked: while a listener holds a segment, it does not pass`, async (t) => {
    if (!requireRoot(t)) return;
    using lab = new RulesLab({}, variant);
    await lab.install();
    await echo(lab.b);
    const client = new Client(lab.a, lab.b.address4());
    assert.equal(await client.connected(), 'connected');
    const first = await Responder.start(lab.a, { other: 'hold' });
    lab.b.run('iptables-nft', ['-t', 'raw', '-A', 'PREROUTING', '-p', 'tcp']);
    assert.equal(await client.say('held', STALL_MS), undefined);
    assert.deepEqual(brief(first.seen[0]!), ['data', 'A', 'none']);
    assert.equal(matched(lab.b, /-A PREROUTING -p tcp$/), 0);
    assert.equal(tracked(lab.a)[0]?.state, asked);
    await first.stop();
    assert.equal(await client.answer(), 'held');
    assert.equal(tracked(lab.a)[0]?.state, asked);
  });

  test(`${variant}: passed by unasked: a segment with one of our options does not pass with nobody there`, async (t) => {
    if (!requireRoot(t)) return;
    using lab = new RulesLab({}, variant);
    await lab.install();
    await echo(lab.b);
    const client = new Client(lab.a, lab.b.address4(), 80, 40001);
    assert.equal(await client.connected(), 'connected');
    lab.rule('-A INPUT -p tcp --tcp-option 253');
    using sender = new RawSender({ mark: 0, netns: lab.b.nsPath });
    const packet = tcpSegment({
      source: lab.b.address4(),
      sourcePort: 80,
      destination: lab.a.address4(),
      destinationPort: 40001,
      flags: 0x10,
      options: [253, 4, 0x54, 0x43],
    });
    assert.ok(sender.send(packet));
    await sleep(50);
    assert.equal(matched(lab.a, /-A INPUT .*253/, variant), 0);
    using responder = await Responder.start(lab.a, { other: 'drop' });
    assert.ok(sender.send(packet));
    assert.deepEqual(brief((await responder.find(() => true))!), ['data', 'A', 'none']);
  });

  test(`${variant}: an encrypted connection whose entry is lost: nothing passes after a blind SYN made a new one`, async (t) => {
    if (!requireRoot(t)) return;
    using lab = new RulesLab({}, variant);
    await lab.install();
    await echo(lab.b);
    const first = await Responder.start(lab.a, { syn: 'offered', synAck: 'tcpcrypt' });
    const client = new Client(lab.a, lab.b.address4(), 80, 40001);
    assert.equal(await client.say('before'), 'before');
    await first.stop();
    lab.a.run('conntrack', ['-D', '-p', 'tcp']);
    using responder = await Responder.start(lab.a, { syn: 'accept', other: 'hold' });
    using sender = new RawSender({ mark: 0, netns: lab.b.nsPath });
    const back = {
      source: lab.b.address4(),
      sourcePort: 80,
      destination: lab.a.address4(),
      destinationPort: 40001,
    };
    lab.b.run('iptables-nft', ['-t', 'raw', '-A', 'PREROUTING', '-p', 'tcp']);
    assert.ok(sender.send(tcpSegment({ ...back, flags: 0x02 })));
    assert.ok(await responder.find(({ flags }) => flags === 'S'));
    await sleep(50);
    assert.equal(tracked(lab.a)[0]?.state, asked);
    assert.equal(await client.say('meanwhile', STALL_MS), undefined);
    // All but the SYN; a late ACK of the connection may have come before it.
    const others = responder.seen.filter(({ flags }) => flags !== 'S');
    assert.ok(others.length > 0);
    for (const { kind, state } of others) assert.deepEqual([kind, state], ['data', 'none']);
    assert.equal(matched(lab.b, /-A PREROUTING -p tcp$/), 0);
  });

  for (const family of [4, 6] as const) {
    test(`${variant}, IPv${family}: offered, agreed, then every packet goes to the data queue`, async (t) => {
      if (!requireRoot(t)) return;
      using lab = new RulesLab({}, variant);
      await lab.install();
      // What our own table and the later hooks see of a packet's mark: nothing, ever.
      const filter = `ip${family === 4 ? '' : '6'}tables-${variant}`;
      const marked = ['-m', 'mark', '!', '--mark', '0/0x7f000000'];
      lab.a.run(filter, ['-A', 'INPUT', '-p', 'tcp', ...marked]);
      lab.a.run(filter, ['-t', 'nat', '-A', 'POSTROUTING', '-p', 'tcp', ...marked]);
      lab.a.run(filter, ['-t', 'nat', '-A', 'POSTROUTING', '-p', 'tcp']);
      await echo(lab.b);
      using responder = await Responder.start(lab.a, { syn: 'offered', synAck: 'tcpcrypt' });
      const client = new Client(lab.a, family === 4 ? lab.b.address4() : lab.b.address6());
      assert.equal(await client.connected(), 'connected');
      assert.equal(await client.say('hello'), 'hello');
      assert.equal(tracked(lab.a)[0]?.state, tcpcrypt);
      await responder.quiet();
      const [syn, synAck, ...rest] = responder.seen;
      assert.deepEqual(brief(syn!), ['setup', 'S', 'none']);
      assert.deepEqual(brief(synAck!), ['setup', 'SA', 'asked before']);
      assert.deepEqual([syn?.hook, synAck?.hook], [hooks.postrouting, hooks.prerouting]);
      assert.ok(rest.length >= 4, `${rest.length} packets`);
      for (const seen of rest) assert.deepEqual([seen.kind, seen.state], ['data', 'tcpcrypt']);
      assert.ok(rest.some((seen) => seen.hook === hooks.postrouting && seen.payloadBytes === 6));
      assert.ok(rest.some((seen) => seen.hook === hooks.prerouting && seen.payloadBytes === 6));
      const save = family === 4 ? '' : '6';
      assert.equal(matched(lab.a, /-A INPUT .*mark/, variant, save), 0);
      assert.equal(matched(lab.a, /-A POSTROUTING .*mark/, variant, save), 0);
      assert.notEqual(matched(lab.a, /-A POSTROUTING -p tcp$/, variant, save), 0);
    });
  }

  test(`${variant}: incoming: SYN offered, SYN-ACK agreed, then data`, async (t) => {
    if (!requireRoot(t)) return;
    using lab = new RulesLab({}, variant);
    await lab.install();
    await echo(lab.a);
    using responder = await Responder.start(lab.a, { syn: 'offered', synAck: 'tcpcrypt' });
    const client = new Client(lab.b, lab.a.address4());
    assert.equal(await client.say('hello'), 'hello');
    await responder.quiet();
    const [syn, synAck, ...rest] = responder.seen;
    assert.deepEqual([syn?.kind, syn?.flags, syn?.hook], ['setup', 'S', hooks.prerouting]);
    assert.deepEqual([synAck?.kind, synAck?.flags, synAck?.hook], ['setup', 'SA', hooks.postrouting]);
    assert.ok(rest.length > 0 && rest.every((seen) => seen.kind === 'data' && seen.state === 'tcpcrypt'));
  });

  test(`${variant}: offered, and the listener is gone before the answer: plain for good`, async (t) => {
    if (!requireRoot(t)) return;
    using lab = new RulesLab({}, variant);
    await lab.install();
    // The answer waits until there is somebody to give it.
    lab.b.run('iptables-nft', ['-A', 'OUTPUT', '-p', 'tcp', '-j', 'DROP']);
    await echo(lab.b);
    using first = await Responder.start(lab.a, { syn: 'offered', synAck: 'tcpcrypt' });
    const client = new Client(lab.a, lab.b.address4());
    assert.ok(await first.find((seen) => seen.flags === 'S'));
    await sleep(50);
    assert.equal(tracked(lab.a)[0]?.state, offered);
    await first.stop();
    lab.b.run('iptables-nft', ['-F', 'OUTPUT']);
    assert.equal(await client.connected(), 'connected');
    await assertDecidedLater(lab, client);
  });

  test(`${variant}: offered, and refused by the other side: the RST passes with nobody there`, async (t) => {
    if (!requireRoot(t)) return;
    using lab = new RulesLab({}, variant);
    await lab.install();
    using responder = await Responder.start(lab.a, { syn: 'offered' });
    const client = new Client(lab.a, lab.b.address4());
    assert.equal(await client.connected(), 'ECONNREFUSED');
    await responder.quiet();
    assert.equal(responder.seen.length, 1, 'the RST was queued');
  });

  test(`${variant}: plain: nothing more is queued, but a segment with one of our options is`, async (t) => {
    if (!requireRoot(t)) return;
    using lab = new RulesLab({ optionKinds: [253, 69] }, variant);
    await lab.install();
    await echo(lab.b);
    using responder = await Responder.start(lab.a, { syn: 'plain' });
    const client = new Client(lab.a, lab.b.address4(), 80, 40001);
    assert.equal(await client.connected(), 'connected');
    assert.equal(await client.say('hello'), 'hello');
    await responder.quiet();
    assert.equal(responder.seen.length, 1);
    using sender = new RawSender({ mark: 0, netns: lab.b.nsPath });
    const tuple = {
      source: lab.b.address4(),
      sourcePort: 80,
      destination: lab.a.address4(),
      destinationPort: 40001,
    };
    for (const kind of [254, 253, 69]) {
      assert.ok(sender.send(tcpSegment({ ...tuple, flags: 0x10, options: [kind, 4, 0x54, 0x43] })));
    }
    assert.ok(await responder.find((seen) => seen.kind === 'data'));
    await sleep(100);
    await responder.quiet();
    const queued = responder.seen.slice(1).map(({ kind, state, flags }) => [kind, state, flags]);
    assert.deepEqual(queued, [
      ['data', 'plain', 'A'],
      ['data', 'plain', 'A'],
    ]);
    // A repeated SYN decides nothing any more, whatever it carries.
    using repeater = new RawSender({ mark: 0, netns: lab.a.nsPath });
    const back = {
      source: lab.a.address4(),
      sourcePort: 40001,
      destination: lab.b.address4(),
      destinationPort: 80,
    };
    assert.ok(repeater.send(tcpSegment({ ...back, flags: 0x02, options: [253, 4, 0x54, 0x43] })));
    await sleep(100);
    await responder.quiet();
    assert.equal(responder.seen.length, 3);
  });

  test(`${variant}: tcpcrypt with nobody listening: it stalls, nothing in plain gets out, and it goes on`, async (t) => {
    if (!requireRoot(t)) return;
    using lab = new RulesLab({}, variant);
    await lab.install();
    await echo(lab.b);
    const first = await Responder.start(lab.a, { syn: 'offered', synAck: 'tcpcrypt' });
    const client = new Client(lab.a, lab.b.address4());
    assert.equal(await client.say('before'), 'before');
    await first.stop();
    lab.b.run('iptables-nft', ['-t', 'raw', '-A', 'PREROUTING', '-p', 'tcp']);
    assert.equal(await client.say('meanwhile', STALL_MS), undefined);
    assert.equal(matched(lab.b, /-A PREROUTING -p tcp$/), 0);
    using second = await Responder.start(lab.a);
    assert.equal(await client.answer(), 'meanwhile');
    await second.quiet();
    assert.ok(second.seen.every((seen) => seen.kind === 'data' && seen.state === 'tcpcrypt'));
    assert.equal(tracked(lab.a)[0]?.state, tcpcrypt);
  });

  test(`${variant}: rewritten packets reach the other side whole, through both queues`, async (t) => {
    if (!requireRoot(t)) return;
    using lab = new RulesLab({}, variant);
    await lab.install();

    await install(lab.options, { netns: lab.b.nsPath, variant });
    await echo(lab.b);
    const answers = { syn: 'offered', synAck: 'superSegment', flip: true } as const;
    using a = await Responder.start(lab.a, answers);
    using b = await Responder.start(lab.b, answers);
    const client = new Client(lab.a, lab.b.address4());
    assert.equal(await client.connected(), 'connected');
    const long = 'x'.repeat(60_000);
    assert.equal(await client.say(long), long);
    assert.equal(tracked(lab.a)[0]?.state, superSegment);
    for (const { seen } of [a, b]) {
      assert.ok(seen.some((packet) => packet.kind === 'superSegment' && packet.gso && packet.bytes > 1500));
      assert.ok(!seen.some((packet) => packet.kind === 'data'));
    }
  });

  test(`${variant}: per-segment connections come cut to segments`, async (t) => {
    if (!requireRoot(t)) return;
    using lab = new RulesLab({}, variant);
    await lab.install();
    await echo(lab.b);
    using responder = await Responder.start(lab.a, { syn: 'offered', synAck: 'tcpcrypt' });
    const client = new Client(lab.a, lab.b.address4());
    assert.equal(await client.connected(), 'connected');
    const long = 'x'.repeat(60_000);
    assert.equal(await client.say(long), long);
    await responder.quiet();
    assert.ok(responder.seen.every((seen) => seen.bytes <= 1500 && !seen.gso));
  });

  test(`${variant}: a connection whose entry is lost goes to the data queue, where the rules were first`, async (t) => {
    if (!requireRoot(t)) return;
    using lab = new RulesLab({ dataWhenNoState: true }, variant);
    await lab.install();
    await echo(lab.b);
    const first = await Responder.start(lab.a, { syn: 'offered', synAck: 'tcpcrypt' });
    const client = new Client(lab.a, lab.b.address4());
    assert.equal(await client.say('before'), 'before');
    await first.stop();
    lab.a.run('conntrack', ['-D', '-p', 'tcp']);
    assert.equal(await client.say('meanwhile', STALL_MS), undefined);
    using second = await Responder.start(lab.a, { other: 'tcpcrypt' });
    assert.equal(await client.answer(), 'meanwhile');
    await second.quiet();
    assert.equal(second.seen[0]?.state, 'none');
    assert.equal(second.seen[0]?.kind, 'data');
    assert.equal(tracked(lab.a)[0]?.state, tcpcrypt);
    await second.quiet();
    assert.ok(second.seen.slice(1).some((seen) => seen.state === 'tcpcrypt'));
  });

  test(`${variant}: a plain connection whose entry is lost is put right by the rewriter`, async (t) => {
    if (!requireRoot(t)) return;
    using lab = new RulesLab({ dataWhenNoState: true }, variant);
    await lab.install();
    await echo(lab.b);
    using responder = await Responder.start(lab.a, { syn: 'plain', other: 'plain' });
    const client = new Client(lab.a, lab.b.address4());
    assert.equal(await client.say('before'), 'before');
    lab.a.run('conntrack', ['-D', '-p', 'tcp']);
    assert.equal(await client.say('after'), 'after');
    assert.equal(tracked(lab.a)[0]?.state, plain);
    await responder.quiet();
    const queued = responder.seen.filter((seen) => seen.kind === 'data');
    assert.deepEqual(
      queued.map(({ state }) => state),
      ['none'],
    );
  });

  test(`${variant}: connections older than the rules pass with nobody there, and are plain once the rewriter says so`, async (t) => {
    if (!requireRoot(t)) return;
    using lab = new RulesLab({ dataWhenNoState: false }, variant);
    await echo(lab.b);
    const client = new Client(lab.a, lab.b.address4());
    assert.equal(await client.say('before'), 'before');
    await lab.install();
    assert.equal(await client.say('nobody'), 'nobody');
    assert.equal(tracked(lab.a)[0]?.state, 0);
    using responder = await Responder.start(lab.a);
    assert.equal(await client.say('somebody'), 'somebody');
    assert.equal(tracked(lab.a)[0]?.state, plain);
    await responder.quiet();
    const asked = responder.seen.length;
    assert.ok(asked > 0);
    assert.equal(await client.say('again'), 'again');
    await responder.quiet();
    assert.equal(responder.seen.length, asked);
  });

  test(`${variant}: strict: without a listener no new connection, with one the repeated SYN is asked about`, async (t) => {
    if (!requireRoot(t)) return;
    using lab = new RulesLab({ strict: true }, variant);
    await lab.install();
    await echo(lab.b);
    lab.b.run('iptables-nft', ['-t', 'raw', '-A', 'PREROUTING', '-p', 'tcp']);
    const client = new Client(lab.a, lab.b.address4());
    assert.equal(await client.connected(STALL_MS), undefined);
    assert.equal(matched(lab.b, /-A PREROUTING -p tcp$/), 0);
    using responder = await Responder.start(lab.a, { syn: 'offered', synAck: 'tcpcrypt' });
    assert.equal(await client.connected(), 'connected');
    assert.equal(await client.say('hello'), 'hello');
    await responder.quiet();
    assert.equal(responder.count('setup', 'SA'), 1);
    assert.equal(tracked(lab.a)[0]?.state, tcpcrypt);
  });

  test(`${variant}: connections go to workers by their addresses, and stay there`, async (t) => {
    if (!requireRoot(t)) return;
    const count = 4;
    const range = (first: number) => ({ first, count });
    const queues = { setupQueues: range(100), dataQueues: range(110), superSegmentQueues: range(120) };
    using lab = new RulesLab(queues, variant);
    await lab.install();
    await echo(lab.a);
    const [, net, last] = /^(.*\.)(\d+)$/.exec(lab.b.address4())!;
    const peers = Array.from({ length: 20 }, (_, i) => `${net}${Number(last) + 1 + i}`);
    for (const peer of peers) lab.b.ip('address', 'add', `${peer}/32`, 'dev', lab.b.device());
    for (const peer of peers) lab.a.ip('route', 'add', `${peer}/32`, 'dev', lab.a.device());
    using responder = await Responder.start(lab.a, { syn: 'offered', synAck: 'tcpcrypt', workers: count });
    // Two connections from each address, one after the other.
    const source = `
      const net = require('node:net'); const [host, ...peers] = process.argv.slice(1);
      const open = (localAddress) => new Promise((done) => net.connect({ host, port: 80, localAddress })
        .on('data', function () { this.destroy(); done(); }).write('x'));
      Promise.all(peers.map(async (peer) => { await open(peer); await open(peer); })).then(() => process.exit());`;
    lab.b.run(process.execPath, ['-e', source, lab.a.address4(), ...peers]);
    await responder.quiet();
    const workers = peers.map((peer) => {
      const entries = tracked(lab.a).filter(({ line }) =>
        line.includes(`src=${peer} dst=${lab.a.address4()}`),
      );
      assert.equal(entries.length, 2, peer);
      return entries.map(({ worker }) => worker);
    });
    assert.ok(
      workers.every(([first, second]) => first === second),
      JSON.stringify(workers),
    );
    const used = new Set(workers.map(([first]) => first!));
    assert.ok(used.size > 1, JSON.stringify(workers));
    for (const worker of used) {
      const of = (flags: string) =>
        responder.seen.filter(
          (seen) => seen.kind === 'setup' && seen.flags === flags && seen.worker === worker,
        );
      assert.equal(of('S').length, 2 * workers.filter(([first]) => first === worker).length);
      assert.equal(of('SA').length, of('S').length, `worker ${worker}`);
      assert.ok(responder.seen.some((seen) => seen.kind === 'data' && seen.worker === worker));
    }
  });

  test(`${variant}: marks with our bits that others set mean nothing`, async (t) => {
    if (!requireRoot(t)) return;
    using lab = new RulesLab({}, variant);
    await lab.install();
    const forged = `0x${(DEFAULT_INJECT_MARK | 0x02000000).toString(16)}/0x7f000000`;
    // Before ours in raw, as a packet from outside that has them would be; before ours in mangle, on its way out.
    lab.rule(`-t raw -I PREROUTING 1 -p tcp -j MARK --set-xmark ${forged}`);
    lab.rule('-t mangle -A OUTPUT -p tcp -j CONNMARK --restore-mark');
    await echo(lab.b);
    const first = await Responder.start(lab.a, { syn: 'offered', synAck: 'tcpcrypt' });
    const client = new Client(lab.a, lab.b.address4());
    assert.equal(await client.say('hello'), 'hello');
    await first.quiet();
    assert.equal(first.count('setup', 'SA'), 1);
    const data = first.seen.filter((seen) => seen.kind === 'data');
    assert.ok(data.length > 0 && data.every((seen) => seen.state === 'tcpcrypt'));
    assert.equal(tracked(lab.a)[0]?.state, tcpcrypt);
    await first.stop();
    assert.equal(await client.say('meanwhile', STALL_MS), undefined);
  });

  test(`${variant}: other bits of the packet mark and the connmark stay`, async (t) => {
    if (!requireRoot(t)) return;
    using lab = new RulesLab({}, variant);
    await lab.install();
    const xtables = `iptables-${variant}`;
    const mark = ['-p', 'tcp', '-j', 'MARK', '--set-xmark', '0x80000123/0xffffffff'];
    lab.a.run(xtables, ['-t', 'mangle', '-A', 'OUTPUT', ...mark]);
    lab.a.run(xtables, [
      '-t',
      'mangle',
      '-A',
      'OUTPUT',
      '-p',
      'tcp',
      '-j',
      'CONNMARK',
      '--set-xmark',
      '0x456/0xfff',
    ]);
    lab.a.run(xtables, ['-t', 'nat', '-A', 'POSTROUTING', '-p', 'tcp', '-m', 'mark', '--mark', '0x80000123']);
    await echo(lab.b);
    using _responder = await Responder.start(lab.a, { syn: 'offered', synAck: 'tcpcrypt' });
    const client = new Client(lab.a, lab.b.address4());
    assert.equal(await client.say('hello'), 'hello');
    assert.equal(matched(lab.a, /-A POSTROUTING .*0x80000123/, variant), 1);
    assert.equal(tracked(lab.a)[0]?.mark, 0x04000456);
  });

  test(`${variant}: excluded ports and peers are not touched`, async (t) => {
    if (!requireRoot(t)) return;
    const excludes = { excludePorts: [{ port: 80, endPort: 81 }], excludeCidrs: ['fd77:0:0:1::2'] };
    using lab = new RulesLab(excludes, variant);
    await lab.install();
    for (const host of [lab.a, lab.b]) for (const port of [80, 90]) await echo(host, port);
    using responder = await Responder.start(lab.a, { syn: 'plain' });
    const ask = async (from: typeof lab.a, address: string, port: number): Promise<number> => {
      const before = responder.seen.length;
      const client = new Client(from, address, port);
      assert.equal(await client.say('hello'), 'hello');
      await responder.quiet();
      return responder.seen.length - before;
    };
    assert.equal(await ask(lab.a, lab.b.address4(), 80), 0);
    assert.equal(await ask(lab.b, lab.a.address4(), 80), 0);
    assert.equal(await ask(lab.a, lab.b.address6(), 90), 0);
    assert.equal(await ask(lab.b, lab.a.address6(), 90), 0);
    assert.equal(await ask(lab.a, lab.b.address4(), 90), 1);
    assert.equal(await ask(lab.b, lab.a.address4(), 90), 1);
    assert.deepEqual(
      tracked(lab.a, 80).map(({ state }) => state),
      [0, 0],
    );
  });

  test(`${variant}: what the rewriter injects passes, to both sides`, async (t) => {
    if (!requireRoot(t)) return;
    using lab = new RulesLab({}, variant);
    await lab.install();
    await echo(lab.b);
    using responder = await Responder.start(lab.a, { syn: 'offered', synAck: 'tcpcrypt' });
    const client = new Client(lab.a, lab.b.address4(), 80, 40001);
    assert.equal(await client.say('hello'), 'hello');
    await responder.quiet();
    const before = responder.seen.length;
    const there = {
      source: lab.a.address4(),
      sourcePort: 40001,
      destination: lab.b.address4(),
      destinationPort: 80,
    };
    const here = {
      source: lab.b.address4(),
      sourcePort: 80,
      destination: lab.a.address4(),
      destinationPort: 40001,
    };
    lab.a.run(`iptables-${variant}`, ['-A', 'INPUT', '-i', 'lo', '-p', 'tcp', '-m', 'mark', '--mark', '0']);
    lab.b.run('iptables-nft', ['-A', 'INPUT', '-p', 'tcp', '--tcp-flags', 'URG', 'URG', '-j', 'DROP']);
    using sender = new RawSender({ mark: DEFAULT_INJECT_MARK, netns: lab.a.nsPath });
    assert.ok(sender.send(tcpSegment({ ...there, flags: 0x30 })));
    assert.ok(sender.send(tcpSegment({ ...here, flags: 0x04 })));
    await sleep(100);
    assert.equal(matched(lab.b, /-A INPUT .*URG/), 1);
    assert.equal(matched(lab.a, /-A INPUT -i lo/, variant), 1);
    await responder.quiet();
    assert.equal(responder.seen.length, before);
    assert.equal(tracked(lab.a)[0]?.state, tcpcrypt);
  });
}

test('a SYN for the 4-tuple of a tcpcrypt connection goes by the mark', async (t) => {
  if (!requireRoot(t)) return;
  using lab = new RulesLab();
  await lab.install();
  await echo(lab.a);
  using responder = await Responder.start(lab.a, { syn: 'offered', synAck: 'tcpcrypt' });
  const client = new Client(lab.b, lab.a.address4(), 80, 40001);
  assert.equal(await client.say('hello'), 'hello');
  using sender = new RawSender({ mark: 0, netns: lab.b.nsPath });
  const tuple = {
    source: lab.b.address4(),
    sourcePort: 40001,
    destination: lab.a.address4(),
    destinationPort: 80,
  };
  sender.send(tcpSegment({ ...tuple, flags: 0x02 }));
  const syn = await responder.find((seen) => seen.kind === 'data' && seen.flags === 'S');
  assert.equal(syn?.state, 'tcpcrypt');
  assert.equal(await client.say('again'), 'again');
});
