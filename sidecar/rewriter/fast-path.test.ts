/** The quick way does what the general one does, packet for packet, whatever the packets are. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { buildSegment, fieldsOf, segmentsOf } from '../wire/build.ts';
import { sackOption } from '../wire/options.ts';
import { ACK, CWR, ECE, FIN, type Packet, PSH, parsePacket, URG } from '../wire/packet.ts';
import { encode } from './checkpoint.ts';
import { type Connection, comeWhole } from './connection.ts';
import { HEADROOM_BYTES } from './fast-path.ts';
import { type End, Script, type ScriptOptions, testPolicy, text } from './testing.ts';
import type { ConnectionMark, Direction, Offload } from './types.ts';

/** The same bytes in the same order each time. */
function seeded(seed: string): (length: number) => Uint8Array {
  let count = 0;
  return (length) => {
    const blocks: Buffer[] = [];
    for (let made = 0; made < length; made += 32)
      blocks.push(createHash('sha256').update(`${seed} ${count++}`).digest());
    return new Uint8Array(Buffer.concat(blocks).subarray(0, length));
  };
}

/** Packets one by one, each with its own MAC. */
const perSegment = (rekey = {}) => testPolicy({}, { suites: [0x600], ...rekey });
const both = () => ({ client: { policy: perSegment() }, server: { policy: perSegment() } });

const connectionOf = (end: End): Connection => [...end.rewriter.table.values()][0]!;

/** The packet as it goes on by the quick way, or undefined if that does not take it; then nothing has changed. */
function quickly(
  end: End,
  direction: Direction,
  { bytes }: Packet,
  mark: ConnectionMark = 'tcpcrypt',
  offload: Offload = { superSegment: false, checksumLater: false },
): Packet | undefined {
  const before = encode(connectionOf(end));
  const ring = Buffer.concat([Buffer.alloc(HEADROOM_BYTES, 0xee), bytes, Buffer.alloc(16, 0xee)]);
  const untouched = Buffer.from(ring);
  const stop = HEADROOM_BYTES + bytes.length;
  const start = end.rewriter.rewriteInPlace(direction, ring, HEADROOM_BYTES, stop, mark, end.now, offload);
  assert.deepEqual(ring.subarray(stop), untouched.subarray(stop), 'nothing is written behind the packet');
  if (start < 0) {
    assert.deepEqual(ring, untouched);
    assert.deepEqual(encode(connectionOf(end)), before);
    return undefined;
  }
  const packet = parsePacket(new Uint8Array(ring.subarray(start, stop)));
  assert.ok(typeof packet === 'object', `not a packet: ${packet}`);
  assert.equal(packet.bytes.length, stop - start);
  return packet;
}

interface Step {
  readonly from: 'client' | 'server';
  /** Where its data begin: at what comes next, or so many bytes before. */
  readonly back: number;
  readonly data: number;
  readonly flags: number;
  readonly sack: boolean;
  readonly ackBack: number;
  readonly window: number;
  /** Without the flag it means nothing. */
  readonly urgent: number;
  /** Lost on the way; or a bit of it flipped, counted from its end or its beginning. */
  readonly fate: 'arrives' | 'lost' | 'twice' | 'cut' | number;
  /** The kernel has left to its hardware, or a path's offloads to us, what they can do; and over the wrong queue. */
  readonly gso: boolean;
  readonly checksumLater: boolean;
  readonly wrongQueue: boolean;
}

const rarely = fc.oneof(
  { weight: 9, arbitrary: fc.constant(false) },
  { weight: 1, arbitrary: fc.constant(true) },
);

const step: fc.Arbitrary<Step> = fc.record({
  from: fc.constantFrom('client', 'server'),
  back: fc.oneof({ weight: 6, arbitrary: fc.constant(0) }, { weight: 2, arbitrary: fc.nat(3000) }),
  data: fc.oneof(
    { weight: 2, arbitrary: fc.constant(0) },
    { weight: 4, arbitrary: fc.nat(1500) },
    { weight: 1, arbitrary: fc.nat(30_000) },
  ),
  flags: fc.oneof(
    { weight: 8, arbitrary: fc.constantFrom(0, PSH) },
    { weight: 1, arbitrary: fc.constantFrom(ECE, URG, CWR, PSH | ECE, URG | PSH, FIN, FIN | PSH) },
  ),
  sack: rarely,
  ackBack: fc.oneof(
    { weight: 5, arbitrary: fc.constant(0) },
    { weight: 1, arbitrary: fc.integer({ min: -500, max: 2000 }) },
  ),
  window: fc.nat(0xffff),
  urgent: fc.constantFrom(0, 0, 1, 7),
  fate: fc.oneof(
    { weight: 8, arbitrary: fc.constant('arrives' as const) },
    { weight: 1, arbitrary: fc.constantFrom('lost' as const, 'twice' as const, 'cut' as const) },
    { weight: 1, arbitrary: fc.nat(12_000) },
  ),
  gso: fc.boolean(),
  checksumLater: fc.boolean(),
  wrongQueue: rarely,
});

const ordinary: Step = {
  from: 'client',
  back: 0,
  data: 100,
  flags: PSH,
  sack: false,
  ackBack: 0,
  window: 9,
  urgent: 0,
  fate: 'arrives',
  gso: false,
  checksumLater: false,
  wrongQueue: false,
};

/** Runs the steps by both ways; returns how many packets the quick way took. */
function compare(options: ScriptOptions, steps: readonly Step[], preset: Partial<Connection> = {}): number {
  const pair = [0, 1].map(() => {
    const ends = {
      client: { random: seeded('c'), ...options.client },
      server: { random: seeded('s'), ...options.server },
    };
    const script = new Script({ ...options, ...ends });
    script.encrypt();
    for (const end of [script.client, script.server]) Object.assign(connectionOf(end), preset);
    return script;
  }) as [Script, Script];
  let taken = 0;
  const both = (
    side: 'client' | 'server',
    direction: Direction,
    packets: readonly [Packet, Packet],
    { wrongQueue }: Step,
    offload: Offload,
  ): readonly Packet[] => {
    const [general, quick] = pair.map((script) => script[side]) as [End, End];
    const whole = comeWhole(connectionOf(general)) !== wrongQueue;
    const mark = whole ? 'superSegment' : 'tcpcrypt';
    const token = general.give(direction, packets[0], mark, offload);
    const expected = general.fateOf(token, packets[0]);
    const inPlace = quickly(quick, direction, packets[1], mark, offload);
    if (inPlace) {
      taken++;
      assert.equal(general.markOf(token), undefined);
    }
    const again = () => quick.fateOf(quick.give(direction, packets[1], mark, offload), packets[1]);
    const actual = inPlace ?? again();
    assert.deepEqual(bytesOf(actual), bytesOf(expected));
    const [sent, sentToo] = [general.sent('network'), quick.sent('network')];
    assert.deepEqual(sentToo.map(bytesOf), sent.map(bytesOf));
    assert.deepEqual(stateOf(quick), stateOf(general));
    return typeof expected === 'string' ? sent : [...sent, expected];
  };
  const next = { client: 1, server: 1 };
  for (const s of steps) {
    const offloadOf = (superSegment: boolean) => ({ superSegment, checksumLater: s.checksumLater });
    const other = s.from === 'client' ? 'server' : 'client';
    const offset = Math.max(1, next[s.from] - s.back);
    const ack = Math.max(1, next[other] - s.ackBack);
    next[s.from] = Math.max(next[s.from], offset + s.data + (s.flags & FIN));
    const fields = {
      ...{
        offset,
        ack,
        flags: s.flags,
        urgent: s.urgent,
        data: new Uint8Array(s.data).fill(s.data),
      },
      ...(s.sack && { options: [sackOption([[pair[0].isnServer + 5, pair[0].isnServer + 9]])] }),
    };
    const made = pair.map((script) => (s.from === 'client' ? script.c(fields) : script.s(fields)));
    const kernels = made.map((p) => buildSegment(p, { ...fieldsOf(p), window: s.window }));
    const wire = both(s.from, 'out', kernels as [Packet, Packet], s, offloadOf(s.gso && s.data > 1000));
    for (const packet of wire) {
      if (s.fate === 'lost') continue;
      const arriving = typeof s.fate === 'number' ? damaged(packet, s.fate) : packet;
      for (let times = s.fate === 'twice' ? 2 : 1; times > 0; times--)
        for (const each of s.fate === 'cut' ? segmentsOf(arriving, 800) : [arriving])
          both(other, 'in', [each, each], s, offloadOf(false));
    }
  }
  return taken;
}

const bytesOf = (packet: Packet | string) =>
  typeof packet === 'string' ? packet : Buffer.from(packet.bytes).toString('hex');

function stateOf(end: End) {
  const c = connectionOf(end);
  const aggregate = c.secured!.aggregate && [JSON.stringify(c.superSegmentSize), c.reassembly?.bytes];
  // A checkpoint has all that outlives a packet but when the last one was.
  return [encode(c).toString(), c.checkpointedAt, aggregate, end.drops, end.macFailures];
}

/** One bit flipped, in the header for small numbers; checksums stay as they were. */
function damaged(packet: Packet, bit: number): Packet {
  const bytes = packet.bytes.slice();
  const at = bit % (bytes.length * 8);
  bytes[at >> 3] ^= 1 << (at & 7);
  return { ...packet, bytes };
}

const worlds = fc.record({
  version: fc.constantFrom(4 as const, 6 as const),
  timestamps: fc.boolean(),
  suite: fc.constantFrom(0x100, 0x300, 0x400, 0x500, 0x600, 0x101, 0x601, 0x601, 0x501),
  rekeyAfterBytes: fc.constantFrom(2 ** 36, 2 ** 36, 4000),
  maxSegmentBytes: fc.constantFrom(65_535, 65_535, 1000),
  // The next checkpoint is far, or due within the run.
  checkpointedAt: fc.constantFrom(0, 0, 3000 - 2 ** 30),
  isn: fc.constantFrom(1000, 2 ** 32 - 3000),
});

describe('the quick way', () => {
  it('rewrites as the general way does, and takes no part in anything else', () => {
    let taken = 0;
    let steps = 0;
    fc.assert(
      fc.property(worlds, fc.array(step, { minLength: 1, maxLength: 30 }), (world, list) => {
        const { version, timestamps, isn, maxSegmentBytes, checkpointedAt } = world;
        const rekey = { afterBytes: world.rekeyAfterBytes, afterMs: Number.POSITIVE_INFINITY };
        const policy = testPolicy({}, { suites: [world.suite], rekey });
        const options = { version, timestamps, isnClient: isn, isnServer: 2 ** 32 - isn };
        const ends = { client: { policy }, server: { policy } };
        taken += compare({ ...options, ...ends }, list, { maxSegmentBytes, checkpointedAt });
        steps += list.length;
      }),
      { numRuns: 200 },
    );
    // Most packets are ordinary: both ways of most steps.
    assert.ok(taken > 0.6 * steps, `${taken} of ${steps}`);
  });

  it('takes data and bare acknowledgements, with timestamps and without, of both families', () => {
    for (const version of [4, 6] as const) {
      for (const timestamps of [true, false]) {
        // The first of the server's still proves to the client that it is bound.
        const steps = [
          ordinary,
          { ...ordinary, from: 'server' },
          { ...ordinary, data: 0 },
          { ...ordinary, flags: 0 },
        ] as const;
        assert.ok(compare({ version, timestamps, ...both() }, steps) >= 6, `IPv${version} ${timestamps}`);
      }
    }
  });

  it('takes super-segments, whole in both directions', () => {
    for (const version of [4, 6] as const) {
      for (const timestamps of [true, false]) {
        const policy = testPolicy({}, { suites: [0x601] });
        const large = { ...ordinary, data: 60_000, gso: true, checksumLater: true };
        const steps = [
          ordinary,
          { ...ordinary, from: 'server' },
          large,
          { ...large, from: 'server' },
        ] as const;
        const taken = compare({ version, timestamps, client: { policy }, server: { policy } }, steps);
        assert.ok(taken >= 6, `IPv${version} ${timestamps}: ${taken}`);
      }
    }
  });

  it('leaves to the general way what is not ordinary', () => {
    const script = new Script(both());
    script.encrypt();
    script.carry('client', { offset: 1, ack: 1, data: 'abc' });
    script.carry('server', { offset: 1, ack: 4, data: 'abc' });
    const takes = (p: Packet): boolean => quickly(script.client, 'out', p) !== undefined;
    assert.ok(takes(script.c({ offset: 4, ack: 4, data: 'x' })));
    assert.ok(!takes(script.c({ offset: 5, ack: 4, data: 'x', flags: URG, urgent: 1 })));
    assert.ok(!takes(script.c({ offset: 5, ack: 4, options: [sackOption([[1, 2]])] })));
    assert.ok(!takes(script.c({ offset: 3, ack: 4, data: 'c' })), 'acknowledged already');
    assert.ok(!takes(script.c({ offset: 5, ack: 4, data: 'x', port: 40_001 })), 'another connection');
    assert.ok(!takes(script.c({ offset: 5, data: 'x' })), 'no ACK');
    const ring = Buffer.concat([Buffer.alloc(HEADROOM_BYTES - 1), script.c({ offset: 5, ack: 4 }).bytes]);
    const start = HEADROOM_BYTES - 1;
    assert.equal(
      script.client.rewriter.rewriteInPlace('out', ring, start, ring.length, 'tcpcrypt', 0),
      -1,
      'no room',
    );
    assert.ok(takes(script.c({ offset: 5, ack: 4, flags: FIN })));
  });

  it('what is larger than the kernel was told of the path is left to the general way', () => {
    const script = new Script();
    script.encrypt();
    connectionOf(script.client).path = { toldBytes: 1372, takesBytes: 1400, untilMs: 1e9 };
    const data = (length: number) => script.c({ offset: 1, ack: 1, data: new Uint8Array(length) });
    assert.equal(quickly(script.client, 'out', data(1372 - 76 + 1)), undefined);
    assert.ok(quickly(script.client, 'out', data(1372 - 76)));
  });

  it('an end that has bytes of an older key to repeat leaves them to the general way', () => {
    const policy = perSegment({ rekey: { afterBytes: 4, afterMs: Number.POSITIVE_INFINITY } });
    const script = new Script({ ...both(), client: { policy } });
    script.encrypt();
    const { server } = script;
    script.carry('client', { offset: 1, ack: 1, data: 'abcd' });
    // Lost, while the client begins a new key and the server follows.
    server.through('out', script.s({ offset: 1, ack: 5, data: 'old' }));
    script.carry('client', { offset: 5, ack: 1, data: 'efgh' });
    script.carry('server', { offset: 4, ack: 9 });
    script.carry('client', { offset: 9, ack: 1 });
    const { generations } = connectionOf(server).secured!;
    assert.deepEqual([generations.live.length, generations.labelling], [2, false]);
    assert.equal(quickly(server, 'out', script.s({ offset: 1, ack: 9, data: 'old' })), undefined);
    const again = script.carry('server', { offset: 1, ack: 9, data: 'old' });
    assert.equal(text(again.delivered[0]!), 'old');
  });

  it('any bytes: -1, or a packet', () => {
    const script = new Script(both());
    script.encrypt();
    const whole = script.c({ offset: 1, ack: 1, data: 'abcdef' }).bytes;
    const any = fc.oneof(
      fc.uint8Array({ maxLength: 120 }),
      fc.tuple(fc.nat(whole.length), fc.nat(whole.length * 8 - 1)).map(([length, bit]) => {
        const cut = whole.slice(0, length);
        if (bit >> 3 < length) cut[bit >> 3] ^= 1 << (bit & 7);
        return cut;
      }),
    );
    fc.assert(
      fc.property(any, fc.constantFrom('in' as const, 'out' as const), (bytes, direction) => {
        quickly(script.client, direction, { bytes, version: 4, tcp: 20, payload: 40 });
      }),
      { numRuns: 2000 },
    );
  });

  it('a connection that is gone is found no more, and a new one of the same ends is', () => {
    const script = new Script(both());
    script.encrypt();
    script.carry('client', { offset: 1, ack: 1, data: 'abc' });
    const packet = script.c({ offset: 4, ack: 1, data: 'x', flags: ACK });
    assert.ok(quickly(script.client, 'out', packet));
    const { rewriter } = script.client;
    rewriter.remove(connectionOf(script.client));
    const ring = Buffer.concat([Buffer.alloc(HEADROOM_BYTES), packet.bytes]);
    assert.equal(rewriter.rewriteInPlace('out', ring, HEADROOM_BYTES, ring.length, 'tcpcrypt', 0), -1);
  });
});
