import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { slotBytes, verdicts } from '../nfqueue-bindings/index.ts';
import { checksumsValid } from '../wire/checksum.ts';
import { layoutLinux, timestampsOption } from '../wire/options.ts';
import {
  ACK,
  ackNumber,
  ECE,
  FIN,
  flagsOf,
  optionBytes,
  type Packet,
  PSH,
  parsePacket,
  payloadOf,
  seqNumber,
  windowOf,
} from '../wire/packet.ts';
import { makePacket } from '../wire/testing.ts';
import { Merger } from './merger.ts';

const SLOT = 2048;
const SLOTS = 40;

/** A ring of small slots, and the verdicts in their order. */
class RingQueue {
  readonly ring: Buffer;
  readonly descriptors = new Uint32Array(0);
  readonly given = new Map<number, 'drop' | Packet>();
  readonly accepted: Packet[] = [];
  readonly marks: (number | undefined)[] = [];

  constructor(slotBytes: number) {
    this.ring = Buffer.alloc(slotBytes * SLOTS, 0xee);
  }

  receive = (): number => 0;
  flush = (): void => {};

  verdict(id: number, verdict: number): void {
    assert.equal(verdict, verdicts.drop);
    this.#give(id, 'drop');
  }

  acceptInPlace(id: number, mark: number | undefined, start: number, end: number): void {
    const packet = parsePacket(new Uint8Array(this.ring.subarray(start, end)));
    assert.ok(typeof packet === 'object' && packet.bytes.length === end - start);
    assert.ok(checksumsValid(packet));
    this.accepted.push(packet);
    this.marks.push(mark);
    this.#give(id, packet);
  }

  #give(id: number, verdict: 'drop' | Packet): void {
    assert.ok(!this.given.has(id), 'one verdict a packet');
    this.given.set(id, verdict);
  }
}

interface Part {
  readonly version?: 4 | 6;
  readonly data: number;
  readonly gap?: number;
  readonly flags?: number;
  readonly port?: number;
  readonly ack?: number;
  readonly window?: number;
  readonly clock?: number;
  readonly mark?: number;
  readonly ecn?: number;
}

/** Gives the parts to a merger as one batch; `slot` says where each lies. */
function merge(parts: readonly Part[], slotBytes = SLOT, slotOf = (i: number) => i * slotBytes + 100) {
  const queue = new RingQueue(slotBytes);
  const merger = new Merger(queue, slotBytes);
  const next = new Map<number, number>();
  const originals: Packet[] = [];
  for (const [i, part] of parts.entries()) {
    const {
      version = 4,
      data,
      gap = 0,
      flags = 0,
      port = 80,
      ack = 7,
      window = 9,
      clock = 5,
      ecn = 0,
    } = part;
    const seq = (next.get(port) ?? 2 ** 32 - 2000) + gap;
    const [source, destination] = version === 4 ? ['10.0.0.1', '10.0.0.2'] : ['fd00::1', 'fd00::2'];
    const options = layoutLinux([timestampsOption(clock, 3)])!;
    const payload = Uint8Array.from({ length: data }, (_, at) => at * 7 + i);
    const p = makePacket({
      version,
      source: source!,
      destination: destination!,
      sourcePort: port,
      destinationPort: 5,
      seq: seq >>> 0,
      ack,
      flags: flags | ACK,
      window,
      options,
      payload,
    });
    if (version === 6) p.bytes[1] = ecn << 4;
    next.set(port, seq + data);
    originals.push(p);
    const start = slotOf(i);
    queue.ring.set(p.bytes, start);
  }
  for (const [i, p] of originals.entries()) {
    merger.accept(i, parts[i]!.mark, slotOf(i), slotOf(i) + p.bytes.length);
  }
  merger.flush();
  assert.equal(queue.given.size, parts.length);
  return { queue, originals };
}

const lengthsOf = (packets: readonly Packet[]) => packets.map((p) => payloadOf(p).length);

describe('merging on the way to our kernel', () => {
  test('segments that follow one another are one packet, with the data of all and the last PSH', () => {
    for (const version of [4, 6] as const) {
      const { queue, originals } = merge([
        { version, data: 101 },
        { version, data: 200 },
        { version, data: 33, flags: PSH },
      ]);
      const [p] = queue.accepted;
      assert.equal(queue.accepted.length, 1);
      assert.deepEqual(payloadOf(p!), new Uint8Array(Buffer.concat(originals.map(payloadOf))));
      assert.equal(flagsOf(p!), ACK | PSH);
      assert.equal(seqNumber(p!), seqNumber(originals[0]!));
      assert.deepEqual([queue.given.get(1), queue.given.get(2)], ['drop', 'drop']);
    }
  });

  test('what differs in anything else is a packet of its own', () => {
    const first = { data: 100 };
    const others: Part[] = [
      { data: 100, gap: 1 },
      { data: 100, gap: -1 },
      { data: 100, port: 81 },
      { data: 100, ack: 8 },
      { data: 100, window: 10 },
      { data: 100, clock: 6 },
      { data: 100, flags: ECE },
      { data: 100, flags: FIN },
      { data: 100, mark: 1 },
      { data: 100, version: 6 },
      { data: 0 },
    ];
    for (const other of others) {
      const { queue, originals } = merge([first, other]);
      assert.deepEqual(queue.accepted, originals, JSON.stringify(other));
    }
    const congested = merge([
      { version: 6, data: 5 },
      { version: 6, data: 5, ecn: 3 },
    ]);
    assert.deepEqual(congested.queue.accepted, congested.originals);
  });

  test('PSH ends a packet, and one that has it is not waited with', () => {
    const { queue } = merge([{ data: 10, flags: PSH }, { data: 11 }, { data: 12, flags: PSH }, { data: 13 }]);
    assert.deepEqual(lengthsOf(queue.accepted), [10, 23, 13]);
  });

  test('a packet grows to the end of its slot and no further, and never over one that is still to come', () => {
    const many = merge(new Array<Part>(10).fill({ data: 600 }));
    assert.deepEqual(lengthsOf(many.queue.accepted), [1800, 1800, 1800, 600]);
    const large = merge(new Array<Part>(12).fill({ data: 1400 }), slotBytes);
    assert.deepEqual(lengthsOf(large.queue.accepted), [14_000, 2800], 'what the kernel finds memory for');
    // Two in one slot.
    const { queue, originals } = merge([{ data: 100 }, { data: 100 }], SLOT, (i) => i * 400);
    assert.deepEqual(queue.accepted, originals);
  });

  test('any batch: the same streams in the same order, under the same headers', () => {
    const rarely = <T>(usual: T, ...other: T[]) =>
      fc.oneof(
        { weight: 40, arbitrary: fc.constant(usual) },
        { weight: 1, arbitrary: fc.constantFrom(...other) },
      );
    const part: fc.Arbitrary<Part> = fc.record({
      data: rarely(0, 1, 2).chain((none) => (none ? fc.constant(0) : fc.integer({ min: 1, max: 300 }))),
      gap: rarely(0, 1, -5, 1000),
      flags: rarely(0, PSH, FIN, ECE, PSH | ECE),
      port: rarely(80, 81),
      ack: rarely(7, 8),
      window: rarely(9, 10),
      clock: rarely(5, 6),
      mark: rarely<number | undefined>(undefined, 3) as fc.Arbitrary<number>,
      version: rarely<4 | 6>(4, 6),
    });
    let packets = 0;
    let accepted = 0;
    fc.assert(
      fc.property(fc.array(part, { minLength: 20, maxLength: SLOTS }), (parts) => {
        const { queue, originals } = merge(parts);
        packets += parts.length;
        accepted += queue.accepted.length;
        let at = 0;
        for (const p of queue.accepted) {
          const data = payloadOf(p);
          let taken = 0;
          do {
            const original = originals[at++]!;
            assert.equal(seqNumber(original), (seqNumber(p) + taken) >>> 0);
            assert.deepEqual([ackNumber(original), windowOf(original)], [ackNumber(p), windowOf(p)]);
            assert.deepEqual(optionBytes(original), optionBytes(p));
            const part = payloadOf(original);
            assert.deepEqual(data.subarray(taken, taken + part.length), part);
            assert.equal(flagsOf(original) & ~PSH, flagsOf(p) & ~PSH);
            taken += part.length;
          } while (taken < data.length);
        }
        assert.equal(at, originals.length);
      }),
    );
    assert.ok(accepted < 0.8 * packets, `${accepted} of ${packets}`);
  });
});
