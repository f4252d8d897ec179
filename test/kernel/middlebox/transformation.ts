/**
 * What a middlebox does to a packet: a function from one packet to the packets that leave, each after a
 * delay. It has no clock and no socket; `middlebox.ts` gives it the kernel's packets.
 */
import { type Flow, FlowTable, type Side } from './flows.ts';
import type { TcpPacket } from './packet.ts';

/** `packet` is built when it leaves, so a transformation may still add to it while it waits. */
export interface Departure {
  readonly packet: TcpPacket;
  readonly delayMs: number;
}

export interface Sight {
  readonly flow: Flow;
  readonly from: Side;
  readonly nowMs: number;
  /** Uniform in [0, 1). */
  random(): number;
  count(what: string): void;
}

export type Transformation = (packet: TcpPacket, sight: Sight) => Departure[];
/** Makes a transformation from the options of its kind. */
export type Factory = (options: Readonly<Record<string, string>>) => Transformation;

export const one = (packet: TcpPacket): Departure[] => [{ packet, delayMs: 0 }];

/** Several in a row, with the flows they share. Counters have the names that the transformations give. */
export class Chain {
  readonly counters: Record<string, number> = { packets: 0 };
  readonly #steps: Transformation[];
  readonly #random: () => number;
  readonly #flows = new FlowTable();

  constructor(steps: Transformation[], random: () => number = generator(1)) {
    this.#steps = steps;
    this.#random = random;
  }

  handle(packet: TcpPacket, nowMs: number): Departure[] {
    const sight: Sight = {
      ...this.#flows.find(packet),
      nowMs,
      random: this.#random,
      count: (what) => {
        this.counters[what] = (this.counters[what] ?? 0) + 1;
      },
    };
    sight.count('packets');
    let leaving = one(packet);
    for (const step of this.#steps) {
      leaving = leaving.flatMap((before) =>
        step(before.packet, sight).map((after) => ({
          packet: after.packet,
          delayMs: before.delayMs + after.delayMs,
        })),
      );
    }
    return leaving;
  }
}

/** A small seeded generator (mulberry32), so that a run can be repeated. */
export function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
