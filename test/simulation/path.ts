/**
 * The path between the two hosts: what it does to a segment on its way. Faults are drawn afresh for each
 * segment; what a middlebox does, it does to every segment (`middlebox.ts`).
 */

import type { Clock } from './clock.ts';
import { OPEN } from './gaps.ts';
import { type Middlebox, stripOptions } from './middlebox.ts';
import type { Random } from './random.ts';
import { decode, encode, FIN, RST, type Segment, SYN, URG } from './segment.ts';

export type Way = 'ab' | 'ba';

export interface Strip {
  readonly which: 'syn' | 'non-syn' | 'all';
  readonly probability: number;
  readonly fromMs: number;
  /** Overwritten with NOPs, or cut out of the header. */
  readonly cut: boolean;
}

export interface Faults {
  readonly delayMs: number;
  readonly jitterMs: number;
  readonly loss: number;
  readonly duplicate: number;
  readonly reorder: number;
  readonly split: number;
  readonly merge: number;
  /** Merges only segments of equal options, as GRO does; else the first's options stand for both. */
  readonly mergeEqualOnly: boolean;
  /** A payload bit is flipped and the checksum made right again. */
  readonly corrupt: number;
  /** A bit is flipped and the checksum left wrong. */
  readonly damage: number;
  readonly strip: Strip | undefined;
  /** SYNs (and SYN-ACKs) that carry an unknown option are dropped. */
  readonly dropsUnknownSyn: boolean;
}

export interface PathEvents {
  /** A segment reaches the far host's link. */
  deliver(way: Way, bytes: Uint8Array): void;
  /** What became of it, for the trace. */
  note(way: Way, what: string, segment: Segment): void;
}

export class Path {
  private readonly waiting = new Map<Way, Segment>();

  private readonly clock: Clock;
  private readonly random: Random;
  private readonly faults: { readonly [way in Way]: Faults };
  private readonly middlebox: Middlebox;
  private readonly events: PathEvents;

  constructor(
    clock: Clock,
    random: Random,
    faults: { readonly [way in Way]: Faults },
    middlebox: Middlebox,
    events: PathEvents,
  ) {
    this.clock = clock;
    this.random = random;
    this.faults = faults;
    this.middlebox = middlebox;
    this.events = events;
  }

  send(way: Way, bytes: Uint8Array): void {
    let segment = decode(bytes);
    if (typeof segment === 'string') return;
    const faults = this.faults[way];
    const { strip } = faults;
    const syn = (segment.flags & SYN) !== 0;
    if (faults.dropsUnknownSyn && syn && stripOptions(segment, true) !== segment) {
      this.events.note(way, 'dropped: SYN with unknown option', segment);
      return;
    }
    if (
      strip !== undefined &&
      this.clock.now >= strip.fromMs &&
      (strip.which === 'all' || (strip.which === 'syn') === syn)
    ) {
      if (this.random.chance(strip.probability)) segment = stripOptions(segment, strip.cut);
    }
    segment = this.middlebox.translate(way, segment);
    if (!this.merge(way, segment)) this.split(way, segment);
  }

  /** Holds a segment with data for a moment, to join it with the one that follows. True when it was taken. */
  private merge(way: Way, segment: Segment): boolean {
    const faults = this.faults[way];
    const first = this.waiting.get(way);
    if (first !== undefined) {
      this.waiting.delete(way);
      const joined = joinable(first, segment, faults.mergeEqualOnly);
      if (joined !== undefined) {
        this.events.note(way, 'merged', joined);
        this.split(way, joined);
        return true;
      }
      this.split(way, first);
    }
    if (segment.payload.length === 0 || !this.random.chance(faults.merge)) return false;
    this.waiting.set(way, segment);
    this.clock.after(2, () => {
      if (this.waiting.get(way) !== segment) return;
      this.waiting.delete(way);
      this.split(way, segment);
    });
    return true;
  }

  private split(way: Way, segment: Segment): void {
    const { length } = segment.payload;
    if (length < 8 || segment.flags & URG || !this.random.chance(this.faults[way].split)) {
      this.carry(way, segment);
      return;
    }
    // Not within an INIT's length and magic: nobody could tell such a head from data (wire.md, rule 2).
    const at = this.random.between(Math.min(6, length - 1), length - 1);
    // Either the option is copied to both parts, or only the first keeps it.
    const rest = this.random.chance(0.5) ? segment : stripOptions(segment, true);
    this.carry(way, { ...segment, payload: segment.payload.subarray(0, at), flags: segment.flags & ~FIN });
    this.carry(way, { ...rest, seq: (segment.seq + at) >>> 0, payload: segment.payload.subarray(at) });
  }

  private carry(way: Way, segment: Segment): void {
    const faults = this.faults[way];
    const { random } = this;
    if (random.chance(faults.loss)) {
      this.events.note(way, 'lost', segment);
      return;
    }
    const copies = random.chance(faults.duplicate) ? 2 : 1;
    for (let copy = 0; copy < copies; copy++) {
      let delay = faults.delayMs + (faults.jitterMs > 0 ? random.below(faults.jitterMs) : 0);
      if (random.chance(faults.reorder)) delay += random.skewed(1, 400);
      if (copy > 0) delay += random.skewed(1, 5000);
      this.clock.after(delay, () => this.events.deliver(way, this.damaged(way, segment)));
    }
  }

  private damaged(way: Way, segment: Segment): Uint8Array {
    const faults = this.faults[way];
    const { length } = segment.payload;
    let bytes: Uint8Array;
    if (length > 0 && this.random.chance(faults.corrupt)) {
      const payload = segment.payload.slice();
      payload[this.random.below(length)]! ^= 1 << this.random.below(8);
      bytes = encode({ ...segment, payload });
      this.events.note(way, 'corrupted', segment);
    } else {
      bytes = encode(segment);
    }
    if (this.random.chance(faults.damage)) {
      const header = segment.src.includes(':') ? 40 : 20;
      let at = header + this.random.below(bytes.length - header);
      const inOptions = at >= header + 20 && at < header + 20 + segment.options.length;
      if (inOptions && OPEN.damagedTimestamps) at = header + this.random.below(20);
      bytes[at]! ^= 1 << this.random.below(8);
      this.events.note(way, 'damaged', segment);
    }
    return bytes;
  }
}

function joinable(first: Segment, second: Segment, equalOnly: boolean): Segment | undefined {
  const adjacent = (first.seq + first.payload.length) >>> 0 === second.seq && second.payload.length > 0;
  const sameFlow = first.sport === second.sport && first.dport === second.dport;
  if (!adjacent || !sameFlow || first.payload.length + second.payload.length > 1460) return undefined;
  if ((first.flags | second.flags) & (SYN | RST | URG) || first.flags & FIN) return undefined;
  if (equalOnly && !Buffer.from(first.options).equals(second.options)) return undefined;
  const payload = new Uint8Array(first.payload.length + second.payload.length);
  payload.set(first.payload);
  payload.set(second.payload, first.payload.length);
  return { ...first, payload, ack: second.ack, window: second.window, flags: first.flags | second.flags };
}
