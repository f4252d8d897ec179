/**
 * What the bits of a mark mean. A connection's state and its worker live in its connmark, and in the packet mark
 * of the one verdict that decides them; the rules (`rules.ts`) read them. Imports nothing but the errors.
 *
 *     mask 0x7e000000:  worker (3 bits)  state (3 bits)          bits 30-28, 27-25
 *     0x01000000:       "the rewriter speaks"                    bit 24, of a packet only, never of a connection
 *
 * A packet with the second bit and a state is a verdict: the rules save the state to the connmark. One with that bit
 * and no state was injected by the rewriter: the rules let it pass. State bits without it mean nothing: other
 * software may have restored a connmark to the packet, and that must never let a packet slip by the queue.
 */
import { TcpcryptError } from '../errors/catalogue.ts';

/** What has been decided about a connection. Numbers are those in the mark. */
export const ConnectionState = {
  /** Nothing: a new connection, or one whose conntrack entry was lost. */
  none: 0,
  /** Plain for good. Packets are not queued. */
  plain: 1,
  /** tcpcrypt, each segment with its own MAC: data queue without GSO. */
  tcpcrypt: 2,
  /** tcpcrypt, a MAC per super-segment: super-segment queue, with GSO. */
  superSegment: 3,
  /** tcpcrypt was offered and not answered yet: like plain, but the next SYN or SYN-ACK is queued for setup. */
  offered: 4,
  /**
   * A SYN or SYN-ACK was queued for setup, or passed by when nobody listened, and no verdict has come since: the next
   * one is queued for setup as well, anything else on a data queue, where the rewriter's table decides.
   */
  asked: 5,
} as const;
export type ConnectionState = (typeof ConnectionState)[keyof typeof ConnectionState];

/** What a verdict can make of a connection. */
export type DecidedState = Exclude<ConnectionState, 0 | 5>;

/**
 * In the mark of a packet on a data queue, never of a connection: nothing is decided about its connection (`none` or
 * `asked`). The rules set the state bits of exactly those queued packets that do not belong to an encrypted connection,
 * so the common case costs nothing.
 */
export const QUEUED_WITHOUT_STATE = 7;

/**
 * In the mark of a packet on a setup queue, never of a connection: an earlier SYN of its connection was queued or
 * passed by. The first one has no state bits.
 */
export const ASKED_BEFORE = 6;

/** Workers that a mark can name. */
export const MAX_WORKERS = 8;
const STATE_BITS = 3;
const WORKER_BITS = 3;
const HIGHEST_STATE = ConnectionState.asked;

export interface MarkLayout {
  /** The six bits of state and worker: the lowest of those given. */
  readonly mask: number;
  /** One bit outside the mask. */
  readonly injectMark: number;
  /** Bits below the state. */
  readonly shift: number;
  /** The bits of the mask that hold the state. */
  readonly stateMask: number;
  readonly workerMask: number;
}

export const DEFAULT_MASK = 0x7e000000;
export const DEFAULT_INJECT_MARK = 0x01000000;

/** Reads the two settings. Throws ERR_TCPCRYPT_USAGE when they cannot hold a state and a worker apart. */
export function markLayout(mask = DEFAULT_MASK, injectMark = DEFAULT_INJECT_MARK): MarkLayout {
  const valid = (bits: number): boolean => Number.isInteger(bits) && bits > 0 && bits <= 0xffffffff;
  if (!valid(mask)) throw usage(`the mark mask ${mask} is not a 32-bit number`);
  const shift = 31 - Math.clz32(mask & -mask);
  // One more than the bits in a row: a power of two if they are contiguous.
  const run = mask / 2 ** shift + 1;
  if (!Number.isInteger(Math.log2(run)) || run < 2 ** (STATE_BITS + WORKER_BITS)) {
    throw usage(
      `the mark mask ${hexMark(mask)} must be at least ${STATE_BITS + WORKER_BITS} contiguous bits`,
    );
  }
  if (!valid(injectMark) || (injectMark & (injectMark - 1)) !== 0 || (injectMark & mask) !== 0) {
    throw usage(`the inject mark ${injectMark} must be one bit outside the mask ${hexMark(mask)}`);
  }
  return {
    mask: bits(0b111111, shift),
    injectMark,
    shift,
    stateMask: bits(0b111, shift),
    workerMask: bits(0b111, shift + STATE_BITS),
  };
}

/** The connmark bits of a state and a worker. */
export function markOf(layout: MarkLayout, state: ConnectionState, worker = 0): number {
  return bits(state | (worker << STATE_BITS), layout.shift);
}

/**
 * The packet mark of a verdict (with NF_REPEAT) that puts a connection into a state. `packetMark` is
 * what the packet had: other software's bits stay.
 */
export function verdictMark(layout: MarkLayout, state: DecidedState, worker = 0, packetMark = 0): number {
  return ((packetMark & ~layout.mask) | layout.injectMark | markOf(layout, state, worker)) >>> 0;
}

/** The state in a mark; a value that no version of this program writes counts as `none`. */
export function stateOf(layout: MarkLayout, mark: number): ConnectionState {
  const state = (mark & layout.stateMask) >>> layout.shift;
  return (state > HIGHEST_STATE ? ConnectionState.none : state) as ConnectionState;
}

export function workerOf(layout: MarkLayout, mark: number): number {
  return (mark & layout.workerMask) >>> (layout.shift + STATE_BITS);
}

/**
 * How the connection of a packet from a data or super-segment queue stands, told by the packet's mark. A setup queue
 * has `askedBefore` instead. Accept the packet with `clearedMark`.
 */
export function queuedState(layout: MarkLayout, packetMark: number): 'none' | 'plain' | 'tcpcrypt' {
  const state = (packetMark & layout.stateMask) >>> layout.shift;
  if (state === 0) return 'tcpcrypt';
  return state === QUEUED_WITHOUT_STATE ? 'none' : 'plain';
}

/** Whether an earlier SYN of the connection of a packet from a setup queue may have passed by. */
export function askedBefore(layout: MarkLayout, packetMark: number): boolean {
  return (packetMark & layout.stateMask) >>> layout.shift === ASKED_BEFORE;
}

/** A packet's mark without our bits. */
export function clearedMark(layout: MarkLayout, packetMark: number): number {
  return (packetMark & ~(layout.mask | layout.injectMark)) >>> 0;
}

/** As iptables writes a mark. */
export function hexMark(mark: number): string {
  return `0x${mark.toString(16)}`;
}

function bits(value: number, shift: number): number {
  return (value << shift) >>> 0;
}

function usage(message: string): TcpcryptError {
  return new TcpcryptError('ERR_TCPCRYPT_USAGE', message);
}
