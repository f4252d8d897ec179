/**
 * Super-segments put together again (wire.md section 6): segments with the same MAC option are collected until
 * [start, start + length) is whole. One instance a connection, and only while something is incomplete. Pure.
 *
 * Invariants: `bytes` never exceeds the budget; a super-segment of which nothing new has come for `HOLD_MS` is gone
 * at the next `expire`. Nothing here is verified yet: whoever gets the whole checks its MAC.
 */

/** A segment of a super-segment. */
export interface Piece {
  /** The header's option bytes as a string: they name the super-segment, for its MAC is among them. */
  readonly options: string;
  /** What else its segments agree in: acknowledgement, window, urgent pointer, flags other than PSH, FIN and CWR. */
  readonly header: string;
  /** Stream offset and length of the whole super-segment. */
  readonly start: number;
  readonly length: number;
  /** Where this segment's data begin; they lie within the super-segment, and there are some. */
  readonly offset: number;
  readonly payload: Uint8Array;
  readonly flags: number;
  /** The IP header's ECN bits (RFC 3168). */
  readonly ecn: number;
}

export interface WholeSuperSegment {
  readonly start: number;
  readonly payload: Uint8Array;
  /** OR over the segments. */
  readonly flags: number;
  readonly ecn: number;
}

/** How long an incomplete super-segment is kept after its newest segment came: longer than segments overtake. */
export const HOLD_MS = 20;
/** What one connection may have incomplete: a few super-segments of 64 KiB at once. */
export const BUDGET_BYTES = 256 * 1024;
/** Gaps in one super-segment: it has some hundred segments, at the smallest MSS, and most come in order. */
const MAX_RANGES = 128;

interface Range {
  from: number;
  to: number;
}

interface Collection {
  readonly header: string;
  readonly start: number;
  readonly payload: Uint8Array;
  /** What has come, relative to `start`: ascending, apart from one another. */
  readonly ranges: Range[];
  flags: number;
  ecn: number;
  newestAt: number;
}

export class Reassembly {
  /** Longest untouched first. */
  private readonly collections = new Map<string, Collection>();
  /** Held in all; each incomplete super-segment counts with its whole length. */
  bytes = 0;

  /**
   * Takes a segment in. Returns the super-segment that it completes, or `waits` until more comes, or `disagrees`: it
   * contradicts those before it and counts for nothing. What `payload` refers to is copied.
   */
  add(piece: Piece, now: number): WholeSuperSegment | 'waits' | 'disagrees' {
    const known = this.collections.get(piece.options);
    if (known && known.header !== piece.header) return 'disagrees';
    const at = piece.offset - piece.start;
    if (known && !cover(known.ranges, at, at + piece.payload.length)) return 'disagrees';
    const collection = known ?? begin(piece, at);
    collection.payload.set(piece.payload, at);
    collection.flags |= piece.flags;
    collection.ecn |= piece.ecn;
    collection.newestAt = now;
    if (known) this.collections.delete(piece.options);
    else this.bytes += piece.length;
    const [first] = collection.ranges;
    if (first!.from === 0 && first!.to === piece.length) {
      this.bytes -= piece.length;
      return collection;
    }
    this.collections.set(piece.options, collection);
    while (this.bytes > BUDGET_BYTES) this.dropOldest();
    return 'waits';
  }

  /** Forgets what has waited too long; returns how many super-segments that were. */
  expire(now: number): number {
    let gone = 0;
    for (const { newestAt } of this.collections.values()) {
      if (newestAt + HOLD_MS > now) break;
      gone++;
    }
    for (let n = 0; n < gone; n++) this.dropOldest();
    return gone;
  }

  /** When `expire` has something to do; undefined: nothing is incomplete. */
  get expiresAt(): number | undefined {
    const oldest = this.collections.values().next().value;
    return oldest && oldest.newestAt + HOLD_MS;
  }

  private dropOldest(): void {
    const [options, { payload }] = this.collections.entries().next().value!;
    this.collections.delete(options);
    this.bytes -= payload.length;
  }
}

function begin({ header, start, length, payload }: Piece, at: number): Collection {
  const ranges = [{ from: at, to: at + payload.length }];
  return { header, start, payload: new Uint8Array(length), ranges, flags: 0, ecn: 0, newestAt: 0 };
}

/** Adds [from, to) to the ranges; false if they would become too many. */
function cover(ranges: Range[], from: number, to: number): boolean {
  let first = 0;
  while (first < ranges.length && ranges[first]!.to < from) first++;
  let after = first;
  while (after < ranges.length && ranges[after]!.from <= to) after++;
  if (after === first && ranges.length >= MAX_RANGES) return false;
  const low = Math.min(from, ranges[first]?.from ?? from);
  const high = after > first ? Math.max(to, ranges[after - 1]!.to) : to;
  ranges.splice(first, after - first, { from: low, to: high });
  return true;
}
