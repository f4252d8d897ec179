/**
 * How large a sender's super-segments are (wire.md section 6). One is lost with any of its segments, so a sender
 * that sees retransmissions makes each segment its own super-segment, and goes back once the path is clean. There is
 * nothing between the two: the kernel hands over what its own window allows, whole or cut. Pure.
 */

/** So much must get through without a retransmission before super-segments are whole again; doubles each time in vain. */
const FIRST_CLEAN_BYTES = 256 * 1024;
const MOST_CLEAN_BYTES = 64 * 1024 * 1024;
/** Whole super-segments that got so far were no mistake: the next retransmission begins anew. */
const GOOD_BYTES = 4 * 1024 * 1024;

export class SuperSegmentSize {
  /** What the kernel hands over at once has one MAC; else each segment. */
  whole = true;
  private cleanBytes = FIRST_CLEAN_BYTES / 2;
  private wholeSince = 0;
  private wholeAgainAt = 0;

  /** Data that had left before left again; `next` is the offset of the first byte that has not left yet. */
  retransmitted(next: number): void {
    if (this.whole) {
      const good = next - this.wholeSince >= GOOD_BYTES;
      this.cleanBytes = good ? FIRST_CLEAN_BYTES : Math.min(2 * this.cleanBytes, MOST_CLEAN_BYTES);
      this.whole = false;
    }
    this.wholeAgainAt = next + this.cleanBytes;
  }

  /** Whether super-segments, which are not whole now, are once the peer has everything before `offset`. */
  isWholeAgainBy(offset: number): boolean {
    return !this.whole && offset >= this.wholeAgainAt;
  }

  /** The peer has everything before `offset`. */
  acknowledged(offset: number): void {
    if (!this.isWholeAgainBy(offset)) return;
    this.whole = true;
    this.wholeSince = offset;
  }
}
