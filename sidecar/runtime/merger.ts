/**
 * Merges segments on their way to our kernel, as GRO does and for the same reason: the kernel pays by the packet, and
 * acknowledges by the packet. The kernel's own GRO cannot, for each segment has another MAC. Only what one batch
 * brings is merged, so nothing waits.
 *
 * Invariant: each packet has one verdict; what the kernel gets is the same stream, in the same order.
 */
import { verdicts } from '../nfqueue-bindings/index.ts';
import { read32 } from '../wire/bytes.ts';
import { completeAt, dataSumAt } from '../wire/in-place.ts';
import { ACK, IPV4_HEADER_BYTES, IPV6_HEADER_BYTES, PSH } from '../wire/packet.ts';
import type { PacketQueue } from './packet-loop.ts';

/** A merged packet with all that the kernel puts around it stays within 16 KiB, which it finds without effort. */
const MAX_BYTES = 15_000;

export class Merger {
  readonly #queue: PacketQueue;
  /** Bytes of the ring in which a packet can grow: from one multiple of this to the next. */
  readonly #slotBytes: number;
  /** The packet that others join, ring[start, end) of the queue; none while `segments` is 0. */
  #segments = 0;
  #id = 0;
  #mark: number | undefined;
  #start = 0;
  #tcp = 0;
  #dataAt = 0;
  #end = 0;
  #nextSeq = 0;
  #dataSum = 0;

  constructor(queue: PacketQueue, slotBytes: number) {
    this.#queue = queue;
    this.#slotBytes = slotBytes;
  }

  /** Accepts ring[start, end): whole, without IP options, with right checksums; now, or with those that follow it. */
  accept(id: number, mark: number | undefined, start: number, end: number): void {
    const { ring } = this.#queue;
    const tcp = start + (ring[start]! >>> 4 === 4 ? IPV4_HEADER_BYTES : IPV6_HEADER_BYTES);
    const dataAt = tcp + (ring[tcp + 12]! >>> 4) * 4;
    const flags = ring[tcp + 13]!;
    if (this.#segments > 0 && this.#continues(mark, start, tcp, dataAt, end)) {
      this.#append(start, tcp, dataAt, end);
      this.#queue.verdict(id, verdicts.drop);
      // An application waits for it, or it is the last of its flight.
      if (flags & PSH) this.flush();
      return;
    }
    this.flush();
    if (flags !== ACK || dataAt === end) return this.#queue.acceptInPlace(id, mark, start, end);
    this.#segments = 1;
    this.#id = id;
    this.#mark = mark;
    this.#start = start;
    this.#tcp = tcp;
    this.#dataAt = dataAt;
    this.#end = end;
    this.#nextSeq = (read32(ring, tcp + 4) + end - dataAt) >>> 0;
  }

  /** Gives the verdict that waits for more; before any other of the same direction, and at the end of a batch. */
  flush(): void {
    if (this.#segments === 0) return;
    if (this.#segments > 1) {
      completeAt(this.#queue.ring, this.#start, this.#tcp, this.#dataAt, this.#end, this.#dataSum);
    }
    this.#segments = 0;
    this.#queue.acceptInPlace(this.#id, this.#mark, this.#start, this.#end);
  }

  /** Whether the packet goes on where the one that waits ends, and says the same in its headers. */
  #continues(mark: number | undefined, start: number, tcp: number, dataAt: number, end: number): boolean {
    const { ring } = this.#queue;
    if (mark !== this.#mark || dataAt === end) return false;
    if (tcp - start !== this.#tcp - this.#start || dataAt - tcp !== this.#dataAt - this.#tcp) return false;
    const mergedEnd = this.#end + end - dataAt;
    const slot = Math.floor(this.#start / this.#slotBytes);
    if (mergedEnd - this.#start > MAX_BYTES || mergedEnd > (slot + 1) * this.#slotBytes) return false;
    // Its own bytes would be written over.
    if (Math.floor(start / this.#slotBytes) === slot) return false;
    if (read32(ring, tcp + 4) !== this.#nextSeq || (ring[tcp + 13]! & ~PSH) !== ACK) return false;
    return sameIp(ring, this.#start, start, tcp) && sameTcp(ring, this.#tcp, tcp, dataAt);
  }

  #append(start: number, tcp: number, dataAt: number, end: number): void {
    const { ring } = this.#queue;
    if (this.#segments++ === 1) {
      this.#dataSum = dataSumAt(ring, this.#start, this.#tcp, this.#dataAt, this.#end);
    }
    const sum = dataSumAt(ring, start, tcp, dataAt, end);
    // Behind an odd number of bytes each byte is the other half of its word (RFC 1071, section 2(B)).
    const odd = (this.#end - this.#dataAt) & 1;
    const added = this.#dataSum + (odd ? ((sum & 0xff) << 8) | (sum >>> 8) : sum);
    this.#dataSum = (added & 0xffff) + (added >>> 16);
    ring.copyWithin(this.#end, dataAt, end);
    ring[this.#tcp + 13]! |= ring[tcp + 13]!;
    this.#end += end - dataAt;
    this.#nextSeq = (this.#nextSeq + end - dataAt) >>> 0;
  }
}

/** All of the IP headers but lengths, identification and checksum. */
function sameIp(ring: Uint8Array, a: number, b: number, bTcp: number): boolean {
  if (bTcp - b === IPV4_HEADER_BYTES) {
    return same(ring, a, b, 0, 2) && same(ring, a, b, 6, 10) && same(ring, a, b, 12, IPV4_HEADER_BYTES);
  }
  return same(ring, a, b, 0, 4) && same(ring, a, b, 6, IPV6_HEADER_BYTES);
}

/** All of the TCP headers but sequence number, flags and checksum. */
function sameTcp(ring: Uint8Array, a: number, b: number, bData: number): boolean {
  return (
    same(ring, a, b, 0, 4) &&
    same(ring, a, b, 8, 13) &&
    same(ring, a, b, 14, 16) &&
    same(ring, a, b, 18, bData - b)
  );
}

function same(ring: Uint8Array, a: number, b: number, from: number, to: number): boolean {
  for (let i = from; i < to; i++) if (ring[a + i] !== ring[b + i]) return false;
  return true;
}
