/**
 * The receiving half of the model TCP: reassembly, the window it may announce, SACK blocks. Everything is
 * counted in stream offsets: the peer's SYN is 0, its first byte 1, its FIN one beyond its last byte.
 */

interface Range {
  from: number;
  to: number;
}

export class Receiver {
  /** The next offset expected. */
  next = 1;
  /** Bytes the application has taken. */
  read = 0;
  finAt: number | undefined;
  /** Right edge of the window announced so far; it never moves back. */
  private edge = 1;
  private data = new Uint8Array(4096);
  /** Beyond `next`; most recently touched first. */
  private islands: Range[] = [];
  private duplicate: Range | undefined;
  private readonly bufferBytes: number;

  constructor(bufferBytes: number) {
    this.bufferBytes = bufferBytes;
  }

  /** In order and not beyond the FIN: what the application may see. */
  get available(): number {
    return this.next - 1 - (this.finished ? 1 : 0);
  }

  get finished(): boolean {
    return this.finAt !== undefined && this.next > this.finAt;
  }

  bytes(): Uint8Array {
    return this.data.subarray(0, this.available);
  }

  /** Takes a segment's bytes, cut to the window. Says whether an answer is due at once. */
  take(from: number, payload: Uint8Array, fin: boolean): { advanced: boolean; urgent: boolean } {
    // Nothing comes after a FIN.
    const limit = Math.min(Math.max(this.edge, this.next + 1), (this.finAt ?? Number.POSITIVE_INFINITY) + 1);
    let start = from;
    let end = Math.min(from + payload.length, limit);
    if (fin && from + payload.length < limit && this.finAt === undefined) this.finAt = from + payload.length;
    if (this.finAt !== undefined) end = Math.min(end, this.finAt);
    if (fin && this.finAt === end && end === from + payload.length) end++;
    if (start < this.next) {
      const to = Math.min(end, this.next);
      if (start < to) this.duplicate = { from: start, to };
      start = this.next;
    }
    if (start >= end) return { advanced: false, urgent: true };
    this.store(start, from, payload, end);
    const before = this.next;
    this.absorb(start, end);
    return { advanced: this.next > before, urgent: this.next === before || this.islands.length > 0 };
  }

  /** First write wins, as in Linux: bytes already held are not replaced. */
  private store(start: number, from: number, payload: Uint8Array, end: number): void {
    if (end > this.data.length) {
      const larger = new Uint8Array(Math.max(end, this.data.length * 2));
      larger.set(this.data);
      this.data = larger;
    }
    for (let at = start; at < Math.min(end, from + payload.length); at++) {
      if (!this.islands.some((island) => island.from <= at && at < island.to)) {
        this.data[at - 1] = payload[at - from]!;
      }
    }
  }

  private absorb(from: number, to: number): void {
    const merged = { from, to };
    const rest: Range[] = [];
    for (const island of this.islands) {
      if (island.from <= merged.to && merged.from <= island.to) {
        const low = Math.max(island.from, from);
        const high = Math.min(island.to, to);
        if (low < high) this.duplicate = { from: low, to: high };
        merged.from = Math.min(merged.from, island.from);
        merged.to = Math.max(merged.to, island.to);
      } else {
        rest.push(island);
      }
    }
    if (merged.from <= this.next) this.next = merged.to;
    else rest.unshift(merged);
    this.islands = rest.filter((island) => island.to > this.next);
  }

  /** The D-SACK block first (RFC 2883, told once), then the most recent islands. */
  sackBlocks(): Range[] {
    const blocks = this.duplicate === undefined ? [] : [this.duplicate];
    this.duplicate = undefined;
    return [...blocks, ...this.islands];
  }

  get hasSack(): boolean {
    return this.islands.length > 0 || this.duplicate !== undefined;
  }

  /** Whether the bytes [from, to) have come; what a SACK or ACK that our peer sees may claim. */
  holds(from: number, to: number): boolean {
    if (to <= this.next) return true;
    const low = Math.max(from, this.next);
    return this.islands.some((island) => island.from <= low && to <= island.to);
  }

  /** The window to announce now, in bytes, a multiple of 2^scale, at most 65535 << scale. */
  window(scale: number, mss: number): number {
    const unread = this.available - this.read;
    let free = Math.max(0, this.bufferBytes - unread);
    if (free < Math.min(mss, this.bufferBytes >> 1)) free = 0;
    const unit = 1 << scale;
    const promised = Math.max(0, this.edge - this.next);
    let window = Math.min(Math.floor(free / unit), 0xffff) * unit;
    if (window < promised) window = Math.min(Math.ceil(promised / unit), 0xffff) * unit;
    this.edge = Math.max(this.edge, this.next + window);
    return window;
  }

  get windowEnd(): number {
    return this.edge;
  }
}
