/**
 * Someone beside the path who injects segments: replays of what went by, blind guesses, and, once both ends
 * are encrypted, exact forgeries. It stands next to the receiver, beyond every middlebox.
 */

import type { Clock } from './clock.ts';
import type { Way } from './path.ts';
import type { Random } from './random.ts';
import { ACK, encode, FIN, joinOptions, listOptions, PSH, RST, type Segment, SYN } from './segment.ts';

export interface AttackPlan {
  readonly kind: 'replay' | 'blind' | 'on-path';
  readonly everyMs: number;
  readonly count: number;
}

export interface AttackTarget {
  /** Whether both ends of this segment's connection are encrypted and live. */
  encrypted(way: Way, segment: Segment): boolean;
  inject(way: Way, bytes: Uint8Array, what: string): void;
  /** Whether the run still has connections; the attacker stops with them. */
  active(): boolean;
}

export class Attacker {
  private readonly seen: { way: Way; segment: Segment }[] = [];
  private left: number;

  private readonly plan: AttackPlan;
  private readonly kinds: readonly number[];
  private readonly clock: Clock;
  private readonly random: Random;
  private readonly target: AttackTarget;

  constructor(
    plan: AttackPlan,
    kinds: readonly number[],
    clock: Clock,
    random: Random,
    target: AttackTarget,
  ) {
    this.plan = plan;
    this.kinds = kinds;
    this.clock = clock;
    this.random = random;
    this.target = target;
    this.left = plan.count;
    this.next();
  }

  /** Every segment that reaches the far host's link is seen. */
  sees(way: Way, segment: Segment): void {
    if (this.seen.length < 400) this.seen.push({ way, segment });
    else this.seen[this.random.below(400)] = { way, segment };
  }

  private next(): void {
    this.clock.after(this.random.between(1, 2 * this.plan.everyMs), () => {
      if (this.left-- <= 0 || !this.target.active()) return;
      this.act();
      this.next();
    });
  }

  private act(): void {
    if (this.seen.length === 0) return;
    const { random, plan } = this;
    const recent = random.chance(0.6) ? this.seen.slice(-6) : this.seen;
    const { way, segment } = random.pick(recent);
    if (plan.kind === 'replay') {
      this.target.inject(way, encode(segment), 'replayed');
      return;
    }
    if (plan.kind === 'blind' || !this.target.encrypted(way, segment)) {
      this.target.inject(way, encode(this.blind(segment)), 'blind');
      return;
    }
    this.target.inject(way, encode(this.exact(segment)), 'forged');
  }

  /** Addresses and ports are known, numbers are not. */
  private blind(segment: Segment): Segment {
    const { random } = this;
    const seq = random.chance(0.3) ? (segment.seq + random.between(20, 60_000)) >>> 0 : random.u32();
    const ack = random.u32();
    const flags = random.pick([RST, RST | ACK, SYN, SYN | ACK, ACK, ACK | PSH, FIN | ACK]);
    const payload = flags & PSH ? this.payload() : new Uint8Array(0);
    return { ...segment, seq, ack, flags, payload, options: this.options(flags) };
  }

  private payload(): Uint8Array {
    const bytes = this.random.bytes(this.random.between(1, 200));
    if (this.random.chance(0.3) && bytes.length > 8) {
      bytes.set([
        0,
        0,
        bytes.length >> 8,
        bytes.length & 255,
        ...this.random.pick([
          [0x29, 0x11],
          [0x83, 0x10],
        ]),
      ]);
    }
    return bytes;
  }

  private options(flags: number): Uint8Array {
    const { random } = this;
    const bodies =
      flags & SYN ? [[], [0x01], [0x05], [0x41, 5, 0, 2, 2]] : [[0x04], [0x07], [0x08], [0x81, 1, 2, 3, 4]];
    if (random.chance(0.4)) return new Uint8Array(0);
    return joinOptions([this.option(false, Uint8Array.from(random.pick(bodies)))]);
  }

  private option(mac: boolean, body: Uint8Array): Uint8Array {
    if (this.kinds.includes(253)) {
      return Uint8Array.of(253, 4 + body.length, 0x54, mac ? 0x4d : 0x43, ...body);
    }
    return Uint8Array.of(mac ? 70 : 69, 2 + body.length, ...body);
  }

  /** Right numbers, from someone who reads everything but has no key. */
  private exact(segment: Segment): Segment {
    const { random } = this;
    const known = listOptions(segment.options).filter((option) => !this.kinds.includes(option.kind));
    const plain = joinOptions(known.map((option) => option.bytes));
    const mac = joinOptions([
      ...known.filter((option) => option.kind !== 5).map((option) => option.bytes),
      this.option(true, random.bytes(16)),
    ]);
    const next = (segment.seq + segment.payload.length) >>> 0;
    const text = random.bytes(random.between(1, 60));
    const flip = segment.payload.slice();
    if (flip.length > 0) flip[random.below(flip.length)]! ^= 1 << random.below(8);
    return random.pick<() => Segment>([
      () => ({ ...segment, seq: next, flags: ACK | PSH, payload: text, options: plain }),
      () => ({ ...segment, seq: next, flags: ACK | PSH, payload: text, options: mac }),
      () => ({ ...segment, seq: next, flags: ACK | FIN, payload: new Uint8Array(0), options: plain }),
      () => ({ ...segment, seq: next, flags: ACK | FIN, payload: new Uint8Array(0), options: mac }),
      () => ({ ...segment, payload: flip }),
      () => ({ ...segment, ack: (segment.ack + random.between(1, 500)) >>> 0 }),
      () => ({ ...segment, window: segment.window ^ (1 << random.below(16)) }),
      () => ({ ...segment, seq: (segment.seq + random.between(1, 40)) >>> 0 }),
      () => ({ ...segment, flags: segment.flags ^ FIN }),
      () => ({ ...segment, seq: next, flags: RST | ACK, payload: new Uint8Array(0), options: mac }),
    ])();
  }
}
