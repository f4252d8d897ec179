/**
 * The sending half of the model TCP: what may leave now, what must leave again, and in which pieces. Offsets
 * as in the receiver. Congestion control is a fixed window that collapses to one segment after a timeout;
 * a retransmission is cut and merged at random, since Linux re-segments and collapses its queue as well.
 */

import type { Random } from './random.ts';

interface Range {
  from: number;
  to: number;
}

export class Sender {
  /** Bytes the application has handed over; they stay, so that any part can be sent again. */
  data = new Uint8Array(0);
  closed = false;
  una = 0;
  next = 0;
  /** Right edge that the peer's window allows. */
  edge = 0;
  largestWindow = 0;
  urgentAt = 0;
  private cwnd: number;
  private readonly cwndMax: number;
  private sacked: Range[] = [];
  private lostEnd = 0;
  private rtxNext = 0;
  private recoveryEnd = 0;
  private duplicates = 0;
  private mss = 1;
  private readonly random: Random;

  constructor(cwndBytes: number, random: Random) {
    this.cwndMax = cwndBytes;
    this.cwnd = cwndBytes;
    this.random = random;
  }

  /** The offset of our FIN, once the application has closed. */
  get finAt(): number {
    return this.closed ? 1 + this.data.length : Number.POSITIVE_INFINITY;
  }

  private get end(): number {
    return 1 + this.data.length + (this.closed ? 1 : 0);
  }

  get outstanding(): boolean {
    return this.next > this.una;
  }

  get pending(): boolean {
    return this.end > this.next;
  }

  /** The next piece to put on the wire, or undefined. `mss` is what fits beside today's options. */
  piece(mss: number): Range | undefined {
    this.mss = mss;
    const lost = this.lostPiece(mss);
    if (lost !== undefined) return lost;
    const limit = Math.min(this.end, this.edge, this.una + this.cwnd + this.sackedBytes());
    // A FIN takes no room in the window that Linux would respect.
    const finOnly = this.closed && this.next === this.finAt && this.next <= this.edge;
    const to = finOnly ? this.end : Math.min(limit, this.next + mss);
    if (to <= this.next) return undefined;
    // Sender's silly window avoidance: a small piece only when it is all there is.
    const whole = to === this.end || to - this.next >= mss || this.una === this.next;
    if (!whole && to === this.una + this.cwnd + this.sackedBytes()) return undefined;
    const piece = { from: this.next, to };
    this.next = to;
    return piece;
  }

  private lostPiece(mss: number): Range | undefined {
    let from = Math.max(this.rtxNext, this.una);
    for (const hole of this.sacked) if (hole.from <= from && from < hole.to) from = hole.to;
    this.rtxNext = from;
    if (from >= this.lostEnd) return undefined;
    if (from !== this.una && this.pipe() >= this.cwnd) return undefined;
    let to = Math.min(this.lostEnd, from + (this.random.chance(0.3) ? this.random.between(1, mss) : mss));
    // Merged with what follows: a retransmission may reach beyond what was declared lost.
    if (this.random.chance(0.2)) to = Math.min(this.next, from + mss);
    for (const hole of this.sacked) if (from < hole.from && hole.from < to) to = hole.from;
    this.rtxNext = to;
    return { from, to };
  }

  private sackedBytes(): number {
    let total = 0;
    for (const range of this.sacked) total += range.to - Math.max(range.from, this.una);
    return total;
  }

  private pipe(): number {
    const lost = Math.max(0, this.lostEnd - Math.max(this.rtxNext, this.una));
    return Math.max(0, this.next - this.una - this.sackedBytes() - lost);
  }

  /** The first unacknowledged piece, for a timer that fires. */
  timedOut(mss: number): void {
    this.lostEnd = this.next;
    this.rtxNext = this.una;
    this.recoveryEnd = this.next;
    this.duplicates = 0;
    this.cwnd = mss;
    // RFC 2018 section 8: what was SACKed may be forgotten after a timeout.
    this.sacked = [];
  }

  acknowledged(ack: number): void {
    const bytes = ack - this.una;
    this.una = ack;
    this.next = Math.max(this.next, ack);
    this.duplicates = 0;
    this.cwnd = Math.min(this.cwndMax, this.cwnd + bytes);
    this.sacked = this.sacked.filter((range) => range.to > ack);
    if (ack < this.recoveryEnd && this.rtxNext < this.lostEnd) return;
    // A partial acknowledgement: the next hole is lost too (RFC 6582).
    if (ack < this.recoveryEnd) {
      this.lostEnd = Math.max(this.lostEnd, Math.min(this.next, ack + this.mss));
      const first = this.sacked.reduce((low, range) => Math.min(low, range.from), this.recoveryEnd);
      this.lostEnd = Math.max(this.lostEnd, first);
      this.rtxNext = ack;
    }
  }

  sack(from: number, to: number): void {
    if (from < this.una || to > this.next || from >= to) return;
    const merged = { from, to };
    this.sacked = this.sacked.filter((range) => {
      if (range.to < merged.from || merged.to < range.from) return true;
      merged.from = Math.min(merged.from, range.from);
      merged.to = Math.max(merged.to, range.to);
      return false;
    });
    this.sacked.push(merged);
    this.sacked.sort((x, y) => x.from - y.from);
  }

  /** Counts a duplicate acknowledgement; three begin a fast retransmission. */
  duplicate(): void {
    this.duplicates++;
    if (this.duplicates < 3 || this.una < this.recoveryEnd) return;
    this.recoveryEnd = this.next;
    this.rtxNext = this.una;
    this.lostEnd = this.sacked[0]?.from ?? Math.min(this.next, this.una + this.mss);
    this.cwnd = Math.max(this.cwnd >> 1, this.mss);
  }
}
