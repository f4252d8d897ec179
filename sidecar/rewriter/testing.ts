/** Helpers for the tests of the rewriter: two ends, driven packet by packet, with nothing between. */
import { randomBytes } from 'node:crypto';
import { defaultSuites } from '../crypto/asm.ts';
import { type Packet, parsePacket } from '../wire/packet.ts';
import { Rewriter } from './rewriter.ts';
import type { CheckpointStore, Decision, Direction, Policy, RewriterOptions, Verdict } from './types.ts';

export interface Injection {
  readonly to: 'network' | 'kernel';
  readonly packet: Packet;
}

export type DecidedEvent = Parameters<RewriterOptions['observer']['decided']>[0];

/** A policy that decides the same for all. */
export function testPolicy(decision: Partial<Decision> = {}, other: Partial<Policy> = {}): Policy {
  return {
    generation: 'test',
    decide: () => ({ mode: 'Opportunistic', authentication: 'Optional', ...decision }),
    keyExchanges: [0x202],
    suites: defaultSuites,
    sessionCache: { enabled: true, maxEntries: 100, lifetimeMs: 3_600_000 },
    rekey: { afterBytes: 2 ** 36, afterMs: Number.POSITIVE_INFINITY },
    rstCheck: false,
    ...other,
  };
}

export class MemoryStore implements CheckpointStore {
  readonly records = new Map<string, Uint8Array>();
  put(key: string, record: Uint8Array): void {
    this.records.set(key, record);
  }
  delete(key: string): void {
    this.records.delete(key);
  }
}

const packetOf = (bytes: Uint8Array): Packet => {
  const p = parsePacket(bytes);
  if (typeof p === 'string') throw new Error(`the rewriter made a bad packet: ${p}`);
  return p;
};

/** One end: what a packet's verdict was, and what the rewriter sent by itself. */
export class End {
  readonly rewriter: Rewriter;
  readonly decided: DecidedEvent[] = [];
  readonly drops: string[] = [];
  readonly injections: Injection[] = [];
  readonly verdicts = new Map<number, Verdict>();
  macFailures = 0;
  now = 1000;
  private token = 0;

  constructor(options: Partial<RewriterOptions> = {}) {
    this.rewriter = new Rewriter({
      policy: testPolicy(),
      random: (length) => new Uint8Array(randomBytes(length)),
      encodings: { write: 'experimental', readBoth: false },
      ...options,
      output: {
        verdict: (token, verdict) => this.verdicts.set(token, verdict),
        inject: (to, bytes) => this.injections.push({ to, packet: packetOf(bytes) }),
      },
      observer: {
        decided: (event) => this.decided.push(event),
        cacheLookup: () => {},
        rekeyed: () => {},
        macFailure: () => this.macFailures++,
        dropped: (why) => this.drops.push(why),
        ...options.observer,
      },
    });
  }

  /** Gives a packet to the rewriter; returns its token. */
  give(direction: Direction, packet: Packet): number {
    this.rewriter.handle(direction, packet.bytes.slice(), ++this.token, 'none', this.now);
    return this.token;
  }

  /** What became of a packet: the packet as it goes on, `drop`, or `held`. */
  fate(direction: Direction, packet: Packet): Packet | 'drop' | 'held' {
    return this.fateOf(this.give(direction, packet), packet);
  }

  fateOf(token: number, packet: Packet): Packet | 'drop' | 'held' {
    const verdict = this.verdicts.get(token);
    if (!verdict) return 'held';
    if (verdict.kind === 'drop') return 'drop';
    return verdict.bytes ? packetOf(verdict.bytes) : packet;
  }

  markOf(token: number): string | undefined {
    const verdict = this.verdicts.get(token);
    return verdict?.kind === 'accept' ? verdict.mark : undefined;
  }

  /** The packet as it goes on; fails if it does not. */
  through(direction: Direction, packet: Packet): Packet {
    const fate = this.fate(direction, packet);
    if (typeof fate === 'string') throw new Error(`expected the packet to go on: ${fate} ${this.drops.at(-1) ?? ''}`);
    return fate;
  }

  /** Takes what the rewriter has sent by itself to `to` since the last call. */
  sent(to: 'network' | 'kernel'): Packet[] {
    const taken = this.injections.filter((each) => each.to === to).map((each) => each.packet);
    const rest = this.injections.filter((each) => each.to !== to);
    this.injections.splice(0, this.injections.length, ...rest);
    return taken;
  }

  pass(ms: number): void {
    this.now += ms;
    this.rewriter.advance(this.now);
  }
}
