/** wire.md section 6: the aggregate MAC, from kernel to kernel. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { suites } from '../crypto/asm.ts';
import { HOLD_MS } from '../protocol/reassembly.ts';
import { buildSegment, fieldsOf, segmentsOf } from '../wire/build.ts';
import { checksumsValid } from '../wire/checksum.ts';
import { withEcn } from '../wire/ecn.ts';
import { cryptOption, layoutCompact, parseOptions, sackOption, timestampsOption } from '../wire/options.ts';
import {
  ACK,
  CWR,
  ECE,
  FIN,
  flagsOf,
  optionBytes,
  type Packet,
  PSH,
  payloadOf,
  seqNumber,
} from '../wire/packet.ts';
import { parseSuboptions, REKEY } from '../wire/suboptions.ts';
import { makeIcmpError } from '../wire/testing.ts';
import { decode } from './checkpoint.ts';
import type { Connection } from './connection.ts';
import { type End, MemoryStore, only, Script, type ScriptOptions, testPolicy, text } from './testing.ts';
import type { ConnectionMark } from './types.ts';

const EXPERIMENTAL = { write: 'experimental', readBoth: false } as const;
const GSO = { superSegment: true, checksumLater: false };
/** TCP header and data of a segment over a link of 1500 bytes. */
const SEGMENT = 1480;

const optionsOf = (p: Packet) => {
  const options = parseOptions(optionBytes(p), EXPERIMENTAL);
  if (options === 'malformed') throw new Error('malformed options');
  return options;
};
const labelOf = (p: Packet) => {
  const parsed = parseSuboptions(optionsOf(p).crypt);
  return parsed === 'malformed' ? undefined : parsed.list.find((each) => each.opcode === REKEY)?.data[0];
};
const connectionOf = (end: End): Connection => [...end.rewriter.table.values()][0]!;
const bytes = (length: number, from = 0) => Uint8Array.from({ length }, (_, i) => (from + i) * 7 + (i >> 8));
const encrypted = (options?: ScriptOptions) => {
  const script = new Script(options);
  const { init1 } = script.encrypt();
  return { script, init1Length: payloadOf(init1).length };
};

/** A super-segment of the client's kernel, as it leaves; what the rewriter sent by itself comes before it. */
function send(
  script: Script,
  fields: Parameters<Script['c']>[0],
  mark: ConnectionMark = 'superSegment',
): { whole: Packet | 'drop' | 'held'; own: Packet[] } {
  const packet = script.c(fields);
  const token = script.client.give('out', packet, mark, GSO);
  return { whole: script.client.fateOf(token, packet), own: script.client.sent('network') };
}

function sent(script: Script, fields: Parameters<Script['c']>[0]): Packet {
  const { whole, own } = send(script, fields);
  assert.ok(typeof whole === 'object');
  assert.equal(own.length, 0);
  return whole;
}

/** What the server's kernel gets of these, in order. */
const receive = (script: Script, packets: readonly Packet[]): Packet[] =>
  packets.map((p) => script.server.fate('in', p)).filter((fate) => typeof fate === 'object');

describe('a super-segment', () => {
  it('has one MAC, of 20 bytes, which says where it begins and how long it is', () => {
    const { script, init1Length } = encrypted();
    const p = sent(script, { offset: 1, ack: 1, data: bytes(60_000), flags: PSH });
    const { mac, macs } = optionsOf(p);
    assert.equal(macs, 1);
    assert.deepEqual(
      [...mac!.subarray(16)],
      [...[1 + init1Length, 60_000].flatMap((n) => [n >> 8, n & 255])],
    );
    assert.ok(checksumsValid(p));
    const [delivered] = receive(script, [p]);
    assert.deepEqual(payloadOf(delivered!), bytes(60_000));
    assert.equal(flagsOf(delivered!), PSH | ACK);
  });

  it('cut on the way, in every order, comes to the kernel as one packet', () => {
    for (const order of ['straight', 'reversed', 'odd first'] as const) {
      const { script } = encrypted();
      const p = sent(script, { offset: 1, ack: 1, data: bytes(40_000), flags: PSH | FIN });
      const segments = segmentsOf(p, SEGMENT);
      assert.equal(segments.length, 29);
      if (order === 'reversed') segments.reverse();
      if (order === 'odd first') segments.sort((a, b) => (seqNumber(a) % 2) - (seqNumber(b) % 2));
      const delivered = receive(script, segments);
      assert.equal(delivered.length, 1);
      assert.deepEqual(payloadOf(delivered[0]!), bytes(40_000));
      assert.equal(flagsOf(delivered[0]!), PSH | FIN | ACK);
      assert.ok(checksumsValid(delivered[0]!));
      assert.equal(connectionOf(script.server).reassembly, undefined, 'nothing is kept');
      assert.equal(script.server.rewriter.nextTimeout() === undefined, false);
      script.server.pass(HOLD_MS);
      assert.deepEqual(script.server.drops, []);
    }
  });

  it('may be of one segment: with data it has the long form, without the short one', () => {
    const { script } = encrypted();
    assert.equal(optionsOf(sent(script, { offset: 1, ack: 1, data: 'x' })).mac!.length, 20);
    assert.equal(optionsOf(script.client.through('out', script.c({ offset: 2, ack: 1 }))).mac!.length, 16);
    assert.equal(
      optionsOf(script.client.through('out', script.c({ offset: 2, ack: 1, flags: FIN }))).mac!.length,
      16,
    );
  });

  it('is as it is in every aggregate suite, resumed too', () => {
    for (const suite of suites.values()) {
      if (!suite.aggregate) continue;
      const policy = testPolicy({}, { suites: [suite.id] });
      const { script } = encrypted({ client: { policy }, server: { policy } });
      assert.equal(only(script.client).suite, suite.name);
      const data = bytes(10_000);
      const parts = segmentsOf(sent(script, { offset: 1, ack: 1, data }), SEGMENT);
      assert.deepEqual(payloadOf(receive(script, parts)[0]!), data);
    }
  });

  it('has the ciphertext that its bytes always have, whatever they are joined with', () => {
    const { script } = encrypted();
    const whole = payloadOf(sent(script, { offset: 1, ack: 1, data: bytes(5000) })).slice();
    const part = payloadOf(
      sent(script, { offset: 1001, ack: 1, data: bytes(3000, 1000).map((_, i) => bytes(5000)[1000 + i]!) }),
    );
    assert.deepEqual(part, whole.subarray(1000, 4000));
  });

  it('is of per-segment form where one end does not have it', () => {
    const policy = testPolicy({}, { suites: [0x600, 0x100] });
    for (const options of [{ client: { policy } }, { server: { policy } }]) {
      const { script } = encrypted(options);
      assert.equal(only(script.client).suite, 'AES-128-CTR-GMAC');
      const { wire, delivered } = script.carry('client', { offset: 1, ack: 1, data: 'abc' });
      assert.equal(optionsOf(wire[0]!).mac!.length, 16);
      assert.equal(text(delivered[0]!), 'abc');
    }
  });
});

describe('what is dropped', () => {
  const prepared = () => {
    const { script } = encrypted();
    const p = sent(script, { offset: 1, ack: 1, data: bytes(4000), flags: PSH });
    return { script, p, segments: segmentsOf(p, SEGMENT) };
  };
  const withBody = (p: Packet, change: (body: Uint8Array) => void): Packet => {
    const options = optionBytes(p).slice();
    change(options.subarray(14, 34));
    return buildSegment(p, { ...fieldsOf(p), options });
  };

  it('a change of any bit that is covered, in any of its segments, and then a whole one still passes', () => {
    const changes: ((p: Packet) => Packet)[] = [
      (p) => withBody(p, (body) => (body[3]! ^= 1)),
      (p) =>
        buildSegment(p, {
          ...fieldsOf(p),
          payload: payloadOf(p).map((byte, i) => (i === 9 ? byte ^ 1 : byte)),
        }),
      (p) => buildSegment(p, { ...fieldsOf(p), flags: flagsOf(p) | FIN }),
    ];
    for (const change of changes) {
      for (let n = 0; n < 3; n++) {
        const { script, segments } = prepared();
        const forged = segments.map((p, i) => (i === n ? change(p) : p));
        assert.equal(receive(script, forged).length, 0);
        script.server.pass(HOLD_MS);
        assert.equal(receive(script, segments).length, 1);
      }
    }
  });

  it('one that does not agree in acknowledgement, window, urgent pointer or flags; the rest does not suffer', () => {
    for (const other of ['ack', { window: 7 }, { urgent: 3 }, { flags: ACK | ECE }] as const) {
      const { script, segments } = prepared();
      const fields = fieldsOf(segments[1]!);
      const changed = other === 'ack' ? { ack: fields.ack - 1 } : other;
      const odd = buildSegment(segments[1]!, { ...fields, ...changed });
      assert.equal(receive(script, [segments[0]!, odd]).length, 0);
      assert.equal(script.server.drops.at(-1), 'super_segment');
      assert.deepEqual(payloadOf(receive(script, segments.slice(1))[0]!), bytes(4000));
    }
  });

  it('but PSH, FIN and CWR may differ, and CWR is not covered', () => {
    const { script, segments } = prepared();
    const [first, ...rest] = segments;
    const reduced = buildSegment(first!, { ...fieldsOf(first!), flags: flagsOf(first!) | CWR });
    const [delivered] = receive(script, [reduced, ...rest]);
    assert.equal(flagsOf(delivered!), ACK | PSH | CWR);
  });

  it('one that lies outside of what its option says', () => {
    const { script, p } = prepared();
    for (const [at, value] of [
      [16, 0xff],
      [19, 0x01],
      [18, 0x00],
    ] as const) {
      assert.equal(receive(script, [withBody(p, (body) => (body[at] = value))]).length, 0);
    }
    assert.equal(receive(script, [p]).length, 1);
  });

  it('the short form with data, and the long one without', () => {
    const { script } = encrypted();
    const p = sent(script, { offset: 1, ack: 1, data: 'abc' });
    const items = (body: Uint8Array, length: number) =>
      layoutCompact([
        timestampsOption(1, 1),
        Uint8Array.of(253, 4 + length, 0x54, 0x4d, ...body.subarray(0, length)),
      ])!;
    const body = optionsOf(p).mac!;
    assert.equal(
      script.server.fate('in', buildSegment(p, { ...fieldsOf(p), options: items(body, 16) })),
      'drop',
    );
    const none = new Uint8Array(0);
    const bare = buildSegment(p, { ...fieldsOf(p), options: items(body, 20), payload: none });
    assert.equal(script.server.fate('in', bare), 'drop');
    assert.equal(script.server.drops.at(-1), 'mac');
    assert.equal(script.server.macFailures, 0, 'no MAC was looked at');
  });

  it('what nobody completes, after 20 ms; the retransmission is a super-segment of its own', () => {
    const { script, p, segments } = prepared();
    assert.equal(receive(script, segments.slice(1)).length, 0);
    assert.deepEqual(script.server.drops, [], 'it waits');
    assert.equal(script.server.rewriter.nextTimeout(), script.server.now + HOLD_MS);
    const again = segmentsOf(sent(script, { offset: 1, ack: 1, data: bytes(4000), flags: PSH }), SEGMENT);
    assert.deepEqual(payloadOf(receive(script, again)[0]!), bytes(4000));
    assert.deepEqual(payloadOf(again[0]!), payloadOf(p).subarray(0, payloadOf(again[0]!).length));
    script.server.pass(HOLD_MS);
    assert.deepEqual(script.server.drops, ['incomplete']);
    assert.equal(connectionOf(script.server).reassembly, undefined);
  });

  it('what is beyond any window, at once: nobody can make us hold it', () => {
    const { script, segments } = prepared();
    const [p] = segments;
    const far = [
      { seq: seqNumber(p!) + 2 ** 30 },
      { ack: fieldsOf(p!).ack + 2 ** 20 },
      { ack: 0 },
      { flags: 0 },
    ];
    for (const other of far) {
      assert.equal(script.server.fate('in', buildSegment(p!, { ...fieldsOf(p!), ...other })), 'drop');
      assert.equal(script.server.drops.at(-1), 'super_segment');
    }
    assert.equal(connectionOf(script.server).reassembly, undefined);
  });

  it('the oldest connection’s, where all together would hold too much', () => {
    const policy = testPolicy({}, { sessionCache: { enabled: false, maxEntries: 0, lifetimeMs: 0 } });
    const limits = { maxCollectedBytes: 100_000 };
    const script = new Script({ client: { policy }, server: { policy, limits } });
    const firstSegments = [1, 2, 3].map((port) => {
      script.encrypt(port);
      return segmentsOf(sent(script, { offset: 1, ack: 1, data: bytes(40_000), port }), SEGMENT);
    });
    for (const [first] of firstSegments) script.server.fate('in', first!);
    const waiting = [...script.server.rewriter.table.values()].map((c) => c.reassembly?.bytes);
    assert.deepEqual(waiting, [undefined, 40_000, 40_000]);
    assert.equal(receive(script, firstSegments[2]!.slice(1)).length, 1);
    assert.equal(receive(script, firstSegments[0]!.slice(1)).length, 0);
  });
});

describe('beside the MAC', () => {
  it('one REKEY fits with timestamps, and no SACK: that goes ahead, without data', () => {
    const { script } = encrypted();
    const edges: [number, number][] = [[script.isnServer + 51, script.isnServer + 101]];
    const data = { offset: 1, ack: 1, data: 'x'.repeat(50), options: [sackOption(edges)] };
    const { whole, own } = send(script, data);
    assert.ok(typeof whole === 'object');
    assert.deepEqual(optionsOf(whole).sack, []);
    assert.equal(own.length, 1);
    assert.equal(payloadOf(own[0]!).length, 0);
    assert.equal(optionsOf(own[0]!).mac!.length, 16);
    assert.equal(seqNumber(own[0]!), seqNumber(whole), 'the next byte, as an ACK of the kernel has it');
    const [ahead, behind] = [own[0]!, whole].map((p) => script.server.through('in', p));
    assert.deepEqual(optionsOf(ahead!).sack, edges);
    assert.equal(text(behind!), 'x'.repeat(50));
  });

  it('without timestamps a block fits beside the data', () => {
    const { script } = encrypted({ timestamps: false });
    const edges: [number, number][] = [[script.isnServer + 51, script.isnServer + 101]];
    const { whole, own } = send(script, { offset: 1, ack: 1, data: 'x', options: [sackOption(edges)] });
    assert.ok(typeof whole === 'object');
    assert.equal(own.length, 0);
    assert.deepEqual(optionsOf(script.server.through('in', whole)).sack, edges);
  });

  it('what the MSS is lowered by is the most that a segment with data ever has: MAC and REKEY', () => {
    const policy = testPolicy({}, { rekey: { afterBytes: 10, afterMs: Number.POSITIVE_INFINITY } });
    for (const [timestamps, kernelBytes] of [
      [true, 12],
      [false, 0],
    ] as const) {
      const { script } = encrypted({ timestamps, client: { policy } });
      const clamp = timestamps ? 28 : 32;
      script.carry('client', { offset: 1, ack: 1, data: 'x'.repeat(20) });
      const data = 'y'.repeat(1460 - clamp - kernelBytes);
      const packet = script.c({ offset: 21, ack: 1, data });
      const wire = script.client.through('out', packet);
      assert.equal(labelOf(wire), 1);
      assert.equal(wire.bytes.length, 1500, 'the link is full, and no more');
      assert.equal(script.client.sent('network').length, 0);
    }
  });

  it('SACK waits where a REKEY is', () => {
    const policy = testPolicy({}, { rekey: { afterBytes: 10, afterMs: Number.POSITIVE_INFINITY } });
    const { script } = encrypted({ client: { policy } });
    script.carry('client', { offset: 1, ack: 1, data: 'x'.repeat(20) });
    const edges: [number, number][] = [[script.isnServer + 51, script.isnServer + 101]];
    const { whole, own } = send(script, { offset: 21, ack: 1, data: 'y', options: [sackOption(edges)] });
    assert.ok(typeof whole === 'object');
    assert.equal(labelOf(whole), 1);
    assert.deepEqual([own.length, optionsOf(whole).sack], [0, []]);
  });

  it('congestion that any of its segments met is told', () => {
    const { script } = encrypted();
    const p = withEcn(sent(script, { offset: 1, ack: 1, data: bytes(4000) }), 2);
    const segments = segmentsOf(p, SEGMENT);
    segments[1] = withEcn(segments[1]!, 3);
    const [delivered] = receive(script, segments);
    assert.equal(delivered!.bytes[1]! & 3, 3);
  });
});

describe('a super-segment that the rewriter has to cut', () => {
  const policy = testPolicy({}, { rekey: { afterBytes: 3000, afterMs: Number.POSITIVE_INFINITY } });

  it('spans generations: each part is one of its own, cut for the path; the kernel’s packet is not used', () => {
    const { script } = encrypted({ client: { policy } });
    sent(script, { offset: 1, ack: 1, data: bytes(4000) });
    sent(script, { offset: 4001, ack: 1, data: bytes(4000) });
    const drops = script.client.drops.length;
    const { whole, own } = send(script, { offset: 2001, ack: 1, data: bytes(5000), flags: PSH });
    assert.equal(whole, 'drop');
    assert.equal(script.client.drops.length, drops, 'nothing of it was lost');
    for (const p of own) assert.ok(p.bytes.length <= 1500);
    assert.deepEqual(own.map(labelOf), [0, 0, 1, 1, 1]);
    const delivered = receive(script, own);
    assert.equal(delivered.length, 2);
    assert.deepEqual(Buffer.concat(delivered.map(payloadOf)), Buffer.from(bytes(5000)));
    assert.deepEqual(
      delivered.map((p) => flagsOf(p) & PSH),
      [0, PSH],
    );
  });

  it('was acknowledged in part meanwhile: the rest goes by itself, for the kernel takes no less than a segment', () => {
    for (const left of [700, 2700]) {
      const { script } = encrypted();
      sent(script, { offset: 1, ack: 1, data: bytes(4000) });
      script.carry('server', { offset: 1, ack: 4001 - left });
      const { whole, own } = send(script, { offset: 1, ack: 1, data: bytes(4000) });
      assert.equal(whole, 'drop');
      for (const p of own) assert.ok(p.bytes.length <= 1500);
      const [delivered] = receive(script, own);
      assert.deepEqual(payloadOf(delivered!), bytes(4000).subarray(4000 - left));
    }
  });

  it('was acknowledged whole: what is left has no data', () => {
    const { script } = encrypted();
    sent(script, { offset: 1, ack: 1, data: bytes(4000) });
    script.carry('server', { offset: 1, ack: 4001 });
    const { whole, own } = send(script, { offset: 1, ack: 1, data: bytes(4000) });
    assert.equal(whole, 'drop');
    assert.equal(own.length, 1);
    assert.equal(payloadOf(script.server.through('in', own[0]!)).length, 0);
  });

  it('is longer than a message to the kernel holds: two, and none is too long for the peer’s queue', () => {
    for (const version of [4, 6] as const) {
      const { script } = encrypted({ version });
      const data = bytes(65_470);
      const { whole, own } = send(script, { offset: 1, ack: 1, data });
      assert.equal(whole, 'drop');
      const [first, second] = receive(script, own);
      assert.ok(first!.bytes.length <= 65_531 && payloadOf(first!).length > 65_000);
      assert.deepEqual(Buffer.concat([payloadOf(first!), payloadOf(second!)]), Buffer.from(data));
      const largest = sent(script, {
        offset: 65_471,
        ack: 1,
        data: bytes(65_531 - (version === 4 ? 20 : 40) - 56),
      });
      assert.equal(largest.bytes.length, 65_531);
      assert.equal(receive(script, [largest]).length, 1);
      const one = { offset: 65_471, ack: 1, data: bytes(payloadOf(largest).length + 1) };
      assert.equal(send(script, one).whole, 'drop', 'a byte more is too much');
    }
  });

  it('is a segment larger than the path takes: one MAC, two segments', () => {
    const { script } = encrypted();
    const packet = script.c({ offset: 1, ack: 1, data: bytes(1460), flags: FIN });
    const last = script.client.through('out', packet);
    const wire = [...script.client.sent('network'), last];
    assert.equal(wire.length, 2);
    for (const p of wire) assert.ok(p.bytes.length <= 1500);
    assert.deepEqual(optionBytes(wire[0]!), optionBytes(wire[1]!));
    const [delivered] = receive(script, wire);
    assert.deepEqual(payloadOf(delivered!), bytes(1460));
    assert.equal(flagsOf(delivered!) & FIN, FIN);
  });

  it('is cut here where the kernel’s segments may be larger than the link, which then come one by one', () => {
    const { script } = encrypted({ mssClient: 8960, mssServer: 1460 });
    const packet = script.s({ offset: 1, ack: 1, data: bytes(4000) });
    assert.equal(script.server.markOf(script.server.give('out', packet, 'tcpcrypt')), undefined);
    script.server.sent('network');
    assert.equal(
      script.server.fateOf(script.server.give('out', packet, 'superSegment', GSO), packet),
      'drop',
    );
    const own = script.server.sent('network');
    for (const p of own) assert.ok(p.bytes.length <= 1500);
    const delivered = own.map((p) => script.client.fate('in', p)).filter((fate) => typeof fate === 'object');
    assert.deepEqual(payloadOf(delivered[0]!), bytes(4000));
    const store = new MemoryStore();
    const again = encrypted({ mssClient: 8960, server: { store } });
    const records = [...store.records.values()].map((record) => decode(record, suites));
    assert.deepEqual(
      records.map((record) => record?.cutsHere),
      [true],
    );
    assert.equal(connectionOf(again.script.server).cutsHere, true);
  });

  it('keeps to what ICMP said of the path', () => {
    const { script } = encrypted({ client: { policy } });
    sent(script, { offset: 1, ack: 1, data: bytes(4000) });
    const wire = sent(script, { offset: 4001, ack: 1, data: bytes(4000) });
    const error = makeIcmpError({
      router: '10.9.9.9',
      type: 3,
      code: 4,
      quoted: wire,
      quotedBytes: 28,
      mtu: 1000,
    });
    script.client.rewriter.handle('in', error, 500, 'superSegment', 1);
    const { own } = send(script, { offset: 2001, ack: 1, data: bytes(5000) });
    for (const p of own) assert.ok(p.bytes.length <= 1000);
    assert.equal(receive(script, own).length, 2);
  });
});

describe('a path with a smaller MTU', () => {
  const tooBig = (quoted: Packet, mtu: number, router = '10.9.9.9') =>
    makeIcmpError({ router, type: 3, code: 4, quoted, quotedBytes: 28, mtu });
  const give = (script: Script, error: Uint8Array) => {
    script.client.rewriter.handle('in', error, 500, 'tcpcrypt', script.client.now);
    return script.client.verdicts.get(500)!;
  };
  const OWN = '10.0.0.1';
  const TOLD = 1400 - 28;
  /** The client's kernel has been told, and sends segments of what it believes to fit. */
  const narrow = (options?: ScriptOptions) => {
    const { script } = encrypted(options);
    const wire = sent(script, { offset: 1, ack: 1, data: bytes(1400) });
    const verdict = give(script, tooBig(wire, 1400));
    assert.ok(verdict.kind === 'accept' && verdict.bytes);
    return { script, wire };
  };
  const full = TOLD - 52;

  it('what is larger than the kernel was told leaves past its check; what is not, as its own', () => {
    const { script } = narrow();
    const large = script.c({ offset: 1, ack: 1, data: bytes(full) });
    assert.equal(script.client.fate('out', large), 'drop');
    const own = script.client.sent('network');
    assert.deepEqual(
      own.map((p) => p.bytes.length),
      [20 + 20 + 36 + full],
    );
    assert.deepEqual(payloadOf(receive(script, own)[0]!), bytes(full));
    const small = script.client.through(
      'out',
      script.c({ offset: 1 + full, ack: 1, data: bytes(TOLD - 76) }),
    );
    assert.equal(small.bytes.length, TOLD);
  });

  it('the kernel’s own complaint about what it was told lowers nothing further', () => {
    const { script, wire } = narrow();
    assert.deepEqual(give(script, tooBig(wire, TOLD, OWN)), { kind: 'drop' });
    assert.equal(connectionOf(script.client).path!.toldBytes, TOLD);
    assert.equal(give(script, tooBig(wire, TOLD)).kind, 'accept', 'a router’s does');
    assert.equal(connectionOf(script.client).path!.toldBytes, TOLD - 28);
  });

  it('holds for the next connection to the same peer, and for as long as the kernel keeps it', () => {
    const policy = testPolicy({}, { sessionCache: { enabled: false, maxEntries: 0, lifetimeMs: 0 } });
    const { script } = narrow({ client: { policy }, server: { policy } });
    script.encrypt(2);
    const [, second] = [...script.client.rewriter.table.values()];
    assert.equal(second!.path!.takesBytes, 1400);
    const mark = (fields: Parameters<Script['c']>[0]) =>
      script.client.markOf(script.client.give('out', script.c({ ack: 1, data: 'x', ...fields })));
    assert.equal(mark({ offset: 1, port: 2 }), undefined, 'the kernel refuses what it would be cut to');
    script.client.now += 611_000;
    const large = script.c({ offset: 1401, ack: 1, data: bytes(full) });
    assert.ok(typeof script.client.fate('out', large) === 'object');
    assert.equal(mark({ offset: 1401 + full }), 'superSegment');
  });
});

describe('which queue', () => {
  const markOf = (script: Script, fields: Parameters<Script['c']>[0], mark: ConnectionMark) =>
    script.client.markOf(script.client.give('out', script.c(fields), mark, GSO));

  it('a connection moves to super-segments once it is bound, and is left there', () => {
    const { script } = encrypted();
    assert.equal(markOf(script, { offset: 1, ack: 1, data: 'abc' }, 'tcpcrypt'), 'superSegment');
    assert.equal(markOf(script, { offset: 4, ack: 1, data: 'abc' }, 'superSegment'), undefined);
    const ack = script.s({ offset: 1, ack: 1 });
    script.server.give('out', ack);
    assert.equal(script.server.markOf(script.server.give('out', ack)), 'superSegment');
  });

  it('with a retransmission to single segments, and back when the path is clean', () => {
    const { script } = encrypted();
    sent(script, { offset: 1, ack: 1, data: bytes(3000) });
    assert.equal(markOf(script, { offset: 1, ack: 1, data: bytes(3000) }, 'superSegment'), 'tcpcrypt');
    assert.equal(markOf(script, { offset: 3001, ack: 1, data: bytes(1000) }, 'tcpcrypt'), undefined);
    let offset = 4001;
    while (offset < 300_000) {
      script.carry('client', { offset, ack: 1, data: bytes(1000) });
      offset += 1000;
      script.carry('server', { offset: 1, ack: offset });
    }
    assert.equal(markOf(script, { offset, ack: 1, data: 'x' }, 'tcpcrypt'), 'superSegment');
  });

  it('per-segment suites stay on the queue of single segments', () => {
    const per = testPolicy({}, { suites: [0x600] });
    const { script } = encrypted({ client: { policy: per } });
    assert.equal(script.client.markOf(script.client.give('out', script.c({ offset: 1, ack: 1 }))), undefined);
  });

  it('a super-segment of a connection whose keys are gone resets both ends', () => {
    const { script } = encrypted();
    const p = sent(script, { offset: 1, ack: 1, data: 'x' });
    const late = new Script();
    assert.equal(late.server.fateOf(late.server.give('in', p, 'superSegment'), p), 'drop');
    assert.equal(late.server.sent('network').length, 1);
  });

  it('a checksum that the kernel has not completed, or has checked, is not judged', () => {
    const { script } = encrypted();
    const p = sent(script, { offset: 1, ack: 1, data: 'abc' });
    p.bytes[p.tcp + 16]! ^= 0x55;
    assert.equal(script.server.fate('in', p), 'drop');
    const token = script.server.give('in', p, 'superSegment', { superSegment: true, checksumLater: true });
    const delivered = script.server.fateOf(token, p);
    assert.ok(typeof delivered === 'object' && checksumsValid(delivered));
  });
});

it('a restart in the middle of a super-segment: it is sent again, and the connection goes on', () => {
  const store = new MemoryStore();
  const { script } = encrypted({ server: { store } });
  const data = bytes(4000);
  const segments = segmentsOf(sent(script, { offset: 1, ack: 1, data }), SEGMENT);
  script.server.give('in', segments[0]!);
  const { local, remote } = only(script.server);
  const socket = { local, remote, state: 1, bytesAcked: 0, bytesReceived: 0, sendQueueBytes: 0 };
  const fresh = new Script({ server: { store } }).server;
  assert.equal(fresh.rewriter.restore([...store.records], [socket], 1), 1);
  for (const p of segments.slice(1)) assert.equal(fresh.fate('in', p), 'drop');
  const again = segmentsOf(sent(script, { offset: 1, ack: 1, data }), SEGMENT);
  const delivered = again.map((p) => fresh.fate('in', p)).filter((fate) => typeof fate === 'object');
  assert.deepEqual(payloadOf(delivered[0]!), data);
});

it('an unknown option beside it, a label too: all segments have the same', () => {
  const policy = testPolicy({}, { rekey: { afterBytes: 100, afterMs: Number.POSITIVE_INFINITY } });
  const { script } = encrypted({ client: { policy } });
  sent(script, { offset: 1, ack: 1, data: bytes(200) });
  const p = sent(script, { offset: 201, ack: 1, data: bytes(4000) });
  const [first, ...rest] = segmentsOf(p, SEGMENT);
  assert.deepEqual(rest.map(labelOf), [1, 1]);
  const stripped = buildSegment(first!, {
    ...fieldsOf(first!),
    options: layoutCompact([timestampsOption(1, 1), cryptOption(Uint8Array.of(REKEY, 1), EXPERIMENTAL)])!,
  });
  assert.equal(receive(script, [stripped, ...rest]).length, 0);
  assert.deepEqual(payloadOf(receive(script, [first!])[0]!), bytes(4000));
});
