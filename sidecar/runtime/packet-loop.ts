/**
 * One turn after another: reads a batch of each queue, asks the rewriter, gives the verdicts back.
 *
 * Invariants: every packet read gets one verdict, now or (held) later; whatever goes wrong, the loop goes on,
 * and a packet that could not be handled passes only where nothing has been encrypted yet.
 */
import {
  askedBefore,
  ConnectionState,
  clearedMark,
  type DecidedState,
  type MarkLayout,
  queuedState,
  verdictMark,
} from '../../netfilter/marks.ts';
import { descriptor, hooks, packetFlags, slotBytes, verdicts } from '../nfqueue-bindings/index.ts';
import type {
  ConnectionMark,
  Direction,
  Offload,
  Output,
  RewriterMachine,
  Verdict,
} from '../rewriter/types.ts';
import { Merger } from './merger.ts';
import { bucketsOf } from './metrics.ts';
import type { SendLog } from './observer.ts';
import { isLinkLocal, linkLocalPeer, payloadBytes } from './packet-fields.ts';
import type { Counters } from './shared-counters.ts';

/** As the rules have them; `super_segment`: encrypted connections whose packets come as the kernel has them. */
export type QueueKind = 'setup' | 'data' | 'super_segment';

/** Of `Queue` (nfqueue-bindings) what the loop uses. */
export interface PacketQueue {
  readonly ring: Buffer;
  readonly descriptors: Uint32Array;
  verdict(id: number, verdict: 0 | 1 | 4, options?: { payload?: Uint8Array; mark?: number }): void;
  acceptInPlace(id: number, mark: number | undefined, start: number, end: number): void;
  flush(): void;
}

/** Of `Poller` (nfqueue-bindings) what the loop uses. */
export interface PacketPoller {
  next(maxWaitMs: number, dueMs: number): void;
  readonly nowMs: number;
  readonly woken: boolean;
  received(index: number): number;
}

/** Sends packets with one mark (`RawSender`). */
export interface Sender {
  send(packet: Uint8Array, ifindex?: number): boolean;
  readonly lastErrno: number;
}

/** States that a packet sent afresh gives back to its connection. */
const renewals = ['offered', 'tcpcrypt'] as const;
export type Renewal = (typeof renewals)[number];

export interface PacketLoopOptions {
  readonly queues: Readonly<Record<QueueKind, PacketQueue>>;
  /** Of the queues in the order of `kinds`. */
  readonly poller: PacketPoller;
  /** By what their packets make of their connection. */
  readonly senders: Readonly<Record<Renewal | 'none', Sender>>;
  /** Work that will be needed later, done a small piece at a time when no packet waits. */
  readonly ahead?: { readonly missing: boolean; replenish(): void };
  readonly createMachine: (output: Output) => RewriterMachine;
  readonly layout: MarkLayout;
  /** Its number in marks. */
  readonly worker: number;
  /** A new connection that could not be handled is dropped, not passed. */
  readonly strict: boolean;
  readonly counters: Counters;
  readonly log: SendLog;
  readonly now: () => number;
}

/** A queue with its counters. */
interface Lane {
  readonly kind: QueueKind;
  readonly queue: PacketQueue;
  readonly accepted: number;
  readonly dropped: number;
}

/** A packet without a verdict yet. */
interface Queued {
  readonly lane: Lane;
  readonly id: number;
  readonly direction: Direction;
  readonly packetMark: number;
  readonly encrypted: boolean;
  readonly payloadBytes: number;
  readonly bytes: Uint8Array | undefined;
}

/** In the order in which their packets are looked at. */
export const kinds = ['setup', 'data', 'super_segment'] as const;
/** Interfaces by link-local peer that are remembered, to answer on the same one. */
const MAX_LINK_LOCAL = 1024;

export class PacketLoop {
  readonly machine: RewriterMachine;
  readonly #options: PacketLoopOptions;
  readonly #held = new Map<number, Queued>();
  readonly #interfaces = new Map<string, number>();
  readonly #lanes: readonly Lane[];
  readonly #slots;
  /** Of the queue whose segments come one by one. */
  readonly #merger: Merger;
  #current: Queued | undefined;
  #token = 0;

  constructor(options: PacketLoopOptions) {
    this.#options = options;
    const { counters, queues } = options;
    this.#slots = countersOf(counters);
    this.#lanes = kinds.map((kind) => ({
      kind,
      queue: queues[kind],
      accepted: counters.slot('tcpcrypt_packets_total', { queue: kind, verdict: 'accept' }),
      dropped: counters.slot('tcpcrypt_packets_total', { queue: kind, verdict: 'drop' }),
    }));
    this.#merger = new Merger(queues.data, slotBytes);
    this.machine = options.createMachine({
      verdict: (token, verdict) => this.#verdict(token, verdict),
      inject: (to, bytes) => this.#inject(to, bytes),
    });
  }

  /** Packets that wait for the rewriter's decision. */
  get held(): number {
    return this.#held.size;
  }

  /**
   * One turn: sends the verdicts of the last one, waits at most `maxWaitMs` for something to do, and does it. Returns
   * whether another thread called `wake`.
   */
  turn(maxWaitMs: number): boolean {
    const { ahead, poller } = this.#options;
    const missing = ahead?.missing ?? false;
    poller.next(missing ? 0 : maxWaitMs, this.machine.nextTimeout() ?? Number.POSITIVE_INFINITY);
    const now = poller.nowMs;
    let packets = 0;
    for (let i = 0; i < kinds.length; i++) {
      const count = poller.received(i);
      if (count > 0) this.#takeAll(this.#lanes[i]!, count, now);
      packets += count;
    }
    if (packets > 0) this.#slots.latency.observe((this.#options.now() - now) / 1000, packets);
    else if (missing) ahead!.replenish();
    const due = this.machine.nextTimeout();
    if (due !== undefined && due <= now) this.#guard('timer', () => this.machine.advance(now));
    return poller.woken;
  }

  /** The time of the turn, on the clock of `now`. */
  get nowMs(): number {
    return this.#options.poller.nowMs;
  }

  /** Sends all verdicts: before anything else than the next turn. */
  flush(): void {
    for (const { queue } of this.#lanes) queue.flush();
  }

  /** Runs what concerns the whole machine. False if it failed: that is logged and counted as with a packet. */
  administer(action: (machine: RewriterMachine) => void): boolean {
    const done = this.#guard('administration', () => action(this.machine));
    this.flush();
    return done;
  }

  #takeAll(lane: Lane, count: number, now: number): void {
    for (let at = 0; at < count * descriptor.stride; at += descriptor.stride) this.#take(lane, at, now);
    this.#merger.flush();
  }

  #take(lane: Lane, at: number, now: number): void {
    if (this.#takeQuickly(lane, at, now)) return;
    // What it may be ordered after.
    this.#merger.flush();
    const { kind } = lane;
    const { ring, descriptors } = lane.queue;
    const offset = descriptors[at + descriptor.offset]!;
    const bytes = ring.subarray(offset, offset + descriptors[at + descriptor.length]!);
    const packetMark = descriptors[at + descriptor.mark]!;
    const mark = markOf(this.#options.layout, kind, packetMark);
    const flags = descriptors[at + descriptor.flags]!;
    const queued: Queued = {
      lane,
      id: descriptors[at + descriptor.id]!,
      direction: descriptors[at + descriptor.hook] === hooks.prerouting ? 'in' : 'out',
      packetMark,
      encrypted: mark === 'tcpcrypt' || mark === 'superSegment',
      payloadBytes: payloadBytes(bytes),
      bytes,
    };
    const token = ++this.#token;
    this.#current = queued;
    try {
      // Longer than a netlink message holds: never altered, never passed on half (wire.md, section 6).
      if (flags & packetFlags.cut) throw new Error('the packet was cut');
      if (isLinkLocal(bytes)) this.#noteInterface(queued, descriptors, at);
      this.machine.handle(queued.direction, bytes, token, mark, now, offloadOf(flags));
    } catch (error) {
      this.#report(kind, error);
      if (this.#current === queued) this.#giveUp(queued);
    }
    // The ring is overwritten by the next batch: what is held keeps no view of it.
    if (this.#current === queued) this.#held.set(token, { ...queued, bytes: undefined });
    this.#current = undefined;
  }

  /**
   * An ordinary packet of an encrypted connection, rewritten in the ring and accepted from there: nothing is made for
   * it. False: it is for the general way.
   */
  #takeQuickly(lane: Lane, at: number, now: number): boolean {
    const { kind, queue } = lane;
    const { ring, descriptors } = queue;
    const packetMark = descriptors[at + descriptor.mark]!;
    const flags = descriptors[at + descriptor.flags]!;
    const connection = markOf(this.#options.layout, kind, packetMark);
    const encrypted = connection === 'tcpcrypt' || connection === 'superSegment';
    if (!encrypted || flags & packetFlags.cut) return false;
    const offset = descriptors[at + descriptor.offset]!;
    const end = offset + descriptors[at + descriptor.length]!;
    // Its interface is taken note of.
    if (isLinkLocal(ring, offset, end)) return false;
    const id = descriptors[at + descriptor.id]!;
    const direction = descriptors[at + descriptor.hook] === hooks.prerouting ? 'in' : 'out';
    const { counters } = this.#options;
    try {
      const start = this.machine.rewriteInPlace(
        direction,
        ring,
        offset,
        end,
        connection,
        now,
        offloadOf(flags),
      );
      if (start < 0) return false;
      const cleared = clearedMark(this.#options.layout, packetMark);
      const mark = cleared === packetMark ? undefined : cleared;
      counters.add(this.#slots.payload[direction], payloadBytes(ring, start, end));
      if (direction === 'in' && kind === 'data') this.#merger.accept(id, mark, start, end);
      else queue.acceptInPlace(id, mark, start, end);
      counters.add(lane.accepted);
    } catch (error) {
      this.#report(kind, error);
      queue.verdict(id, verdicts.drop);
      counters.add(lane.dropped);
    }
    return true;
  }

  /** What cannot be handled passes where nothing is encrypted yet, and nowhere else. */
  #giveUp(queued: Queued): void {
    const pass = queued.lane.kind === 'setup' && !this.#options.strict;
    this.#answer(queued, pass ? verdicts.accept : verdicts.drop, {});
    this.#current = undefined;
  }

  #verdict(token: number, verdict: Verdict): void {
    const isCurrent = token === this.#token && this.#current !== undefined;
    const queued = isCurrent ? this.#current : this.#held.get(token);
    if (queued === undefined) return;
    if (isCurrent) this.#current = undefined;
    else this.#held.delete(token);
    try {
      if (verdict.kind === 'accept') this.#accept(queued, verdict);
      else this.#drop(queued, verdict.elsewhere ?? false);
    } catch (error) {
      // A packet that does not fit a verdict, say.
      this.#report(queued.lane.kind, error);
      this.#answer(queued, verdicts.drop, {});
    }
  }

  #drop(queued: Queued, elsewhere: boolean): void {
    if (elsewhere && queued.encrypted && queued.direction === 'out')
      this.#options.counters.add(this.#slots.payload.out, queued.payloadBytes);
    this.#answer(queued, verdicts.drop, {});
  }

  #accept(queued: Queued, { bytes, mark, afresh }: Verdict & { kind: 'accept' }): void {
    const { layout, worker } = this.#options;
    const { packetMark, encrypted, direction } = queued;
    const payload = bytes && { payload: bytes };
    const state = mark && stateFor(mark);
    const whole = bytes ?? queued.bytes;
    if (encrypted) {
      const passed = direction === 'out' ? queued.payloadBytes : whole ? payloadBytes(whole) : 0;
      this.#options.counters.add(this.#slots.payload[direction], passed);
    }
    const renewal = afresh ? renewals.find((each) => each === mark) : undefined;
    if (renewal && whole && !isLinkLocal(whole)) {
      this.#answer(queued, verdicts.drop, {});
      return this.#inject(direction === 'in' ? 'kernel' : 'network', whole, renewal);
    }
    if (state !== undefined) {
      const marked = verdictMark(layout, state, worker, packetMark);
      this.#answer(queued, verdicts.repeat, { ...payload, mark: marked });
      return;
    }
    const cleared = clearedMark(layout, packetMark);
    this.#answer(
      queued,
      verdicts.accept,
      cleared === packetMark ? { ...payload } : { ...payload, mark: cleared },
    );
  }

  #answer({ lane, id }: Queued, verdict: 0 | 1 | 4, options: { payload?: Uint8Array; mark?: number }): void {
    lane.queue.verdict(id, verdict, options);
    this.#options.counters.add(verdict === verdicts.drop ? lane.dropped : lane.accepted);
  }

  #inject(to: 'network' | 'kernel', bytes: Uint8Array, renewal: Renewal | 'none' = 'none'): void {
    const peer = isLinkLocal(bytes) ? linkLocalPeer(bytes, 'out') : undefined;
    const ifindex = peer === undefined || to === 'kernel' ? undefined : this.#interfaces.get(peer);
    const { senders, counters, log } = this.#options;
    const sender = senders[renewal];
    // What came before it in the stream leaves before it.
    if (to === 'network') this.#current?.lane.queue.flush();
    const sent = sender.send(bytes, ifindex);
    counters.add(this.#slots.injected[to][sent ? 'sent' : 'failed']);
    if (!sent) log('debug', 'a packet of our own could not be sent', { to, errno: sender.lastErrno });
  }

  #noteInterface({ bytes, direction }: Queued, descriptors: Uint32Array, at: number): void {
    const peer = linkLocalPeer(bytes!, direction);
    const ifindex = descriptors[at + (direction === 'in' ? descriptor.inIfindex : descriptor.outIfindex)]!;
    this.#interfaces.delete(peer);
    this.#interfaces.set(peer, ifindex);
    if (this.#interfaces.size > MAX_LINK_LOCAL)
      this.#interfaces.delete(this.#interfaces.keys().next().value!);
  }

  #guard(where: 'timer' | 'administration', action: () => void): boolean {
    try {
      action();
      return true;
    } catch (error) {
      this.#report(where, error);
      return false;
    }
  }

  #report(queue: QueueKind | 'timer' | 'administration', error: unknown): void {
    const { counters, log } = this.#options;
    const kind = error instanceof Error ? error.name : 'unknown';
    counters.add(counters.slot('tcpcrypt_packet_errors_total', { queue, kind }));
    const stack = error instanceof Error ? error.stack : String(error);
    log('error', 'a packet could not be handled', { code: 'ERR_TCPCRYPT_INTERNAL', queue, error: stack });
  }
}

/** What the rewriter hears of a packet's connection. */
function markOf(layout: MarkLayout, kind: QueueKind, packetMark: number): ConnectionMark {
  if (kind === 'super_segment') return 'superSegment';
  if (kind === 'data') return queuedState(layout, packetMark);
  return askedBefore(layout, packetMark) ? 'offered' : 'none';
}

/** By the two bits of a descriptor's flags. */
const OFFLOADS: readonly Offload[] = [false, true].flatMap((superSegment) =>
  [false, true].map((checksumLater) => ({ superSegment, checksumLater })),
);

function offloadOf(flags: number): Offload {
  return OFFLOADS[(flags & packetFlags.gso ? 2 : 0) + (flags & packetFlags.checksumNotReady ? 1 : 0)]!;
}

function stateFor(mark: ConnectionMark): DecidedState {
  if (mark === 'superSegment') return ConnectionState.superSegment;
  if (mark === 'tcpcrypt') return ConnectionState.tcpcrypt;
  return mark === 'plain' ? ConnectionState.plain : ConnectionState.offered;
}

function countersOf(counters: Counters) {
  const injected = (to: 'network' | 'kernel') => ({
    sent: counters.slot('tcpcrypt_injected_packets_total', { to, result: 'sent' }),
    failed: counters.slot('tcpcrypt_injected_packets_total', { to, result: 'failed' }),
  });
  const payload = (direction: Direction) => counters.slot('tcpcrypt_payload_bytes_total', { direction });
  const latency = 'tcpcrypt_packet_latency_seconds';
  return {
    injected: { network: injected('network'), kernel: injected('kernel') },
    payload: { in: payload('in'), out: payload('out') },
    latency: counters.histogram(latency, bucketsOf(latency)),
  };
}
