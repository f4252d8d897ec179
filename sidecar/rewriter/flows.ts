/**
 * Connections by the bytes of a packet, found without making a key: a string a packet costs more than all else that
 * the lookup does. A hash table with linear probing beside the connection table, which alone decides what there is.
 *
 * The hash is a sum of the key's 16-bit words, each times a secret odd number (multiply-shift hashing): who chooses
 * ports and addresses cannot choose slots.
 */
import { IPV4_HEADER_BYTES } from '../wire/packet.ts';
import type { Connection } from './connection.ts';

/** 2 to this power, at first. Never more than half of them are taken. */
const FIRST_SLOT_BITS = 8;
/** Of the longest key: two IPv6 addresses and ports. */
const KEY_WORDS = 18;

/** Where the addresses and ports of a packet stand, this host's first. */
export interface FlowPlace {
  localAt: number;
  remoteAt: number;
  /** 4 or 16. */
  addressBytes: number;
  localPortAt: number;
  remotePortAt: number;
}

export const emptyPlace = (): FlowPlace => ({
  localAt: 0,
  remoteAt: 0,
  addressBytes: 0,
  localPortAt: 0,
  remotePortAt: 0,
});

/** Fills `place` for a packet that begins at `start` and whose TCP header begins at `tcp`. */
export function placeFlow(place: FlowPlace, start: number, tcp: number, out: boolean): void {
  const isIpv4 = tcp - start === IPV4_HEADER_BYTES;
  const source = start + (isIpv4 ? 12 : 8);
  const destination = start + (isIpv4 ? 16 : 24);
  place.addressBytes = isIpv4 ? 4 : 16;
  place.localAt = out ? source : destination;
  place.remoteAt = out ? destination : source;
  place.localPortAt = out ? tcp : tcp + 2;
  place.remotePortAt = out ? tcp + 2 : tcp;
}

export class Flows {
  private slotBits = FIRST_SLOT_BITS;
  private slots = emptySlots(FIRST_SLOT_BITS);
  private size = 0;
  private readonly factors = crypto.getRandomValues(new Uint32Array(KEY_WORDS)).map((factor) => factor | 1);

  find(bytes: Uint8Array, place: FlowPlace): Connection | undefined {
    const last = this.slots.length - 1;
    for (let slot = this.slotOfPacket(bytes, place); ; slot = (slot + 1) & last) {
      const c = this.slots[slot];
      if (c === undefined || isKeyOf(c.key, bytes, place)) return c;
    }
  }

  /** There must be none with its key. */
  add(c: Connection): void {
    this.size++;
    if (2 * this.size > this.slots.length) this.grow();
    this.put(c);
  }

  remove(c: Connection): void {
    const last = this.slots.length - 1;
    let hole = this.slotOfKey(c.key);
    while (this.slots[hole] !== c) {
      if (this.slots[hole] === undefined) return;
      hole = (hole + 1) & last;
    }
    this.size--;
    this.slots[hole] = undefined;
    // Whoever stands behind the hole because of what was in it moves up.
    for (let slot = (hole + 1) & last; ; slot = (slot + 1) & last) {
      const next = this.slots[slot];
      if (next === undefined) return;
      const wanted = this.slotOfKey(next.key);
      if (((slot - wanted) & last) < ((slot - hole) & last)) continue;
      this.slots[hole] = next;
      this.slots[slot] = undefined;
      hole = slot;
    }
  }

  private put(c: Connection): void {
    let slot = this.slotOfKey(c.key);
    while (this.slots[slot] !== undefined) slot = (slot + 1) & (this.slots.length - 1);
    this.slots[slot] = c;
  }

  private grow(): void {
    const old = this.slots;
    this.slots = emptySlots(++this.slotBits);
    for (const c of old) if (c !== undefined) this.put(c);
  }

  private slotOfPacket(bytes: Uint8Array, p: FlowPlace): number {
    const half = p.addressBytes / 2;
    let sum = 0;
    for (let i = 0; i < half; i++) {
      sum = (sum + Math.imul(this.factors[i], wordAt(bytes, p.localAt + 2 * i))) | 0;
      sum = (sum + Math.imul(this.factors[half + 1 + i], wordAt(bytes, p.remoteAt + 2 * i))) | 0;
    }
    sum = (sum + Math.imul(this.factors[half], wordAt(bytes, p.localPortAt))) | 0;
    sum = (sum + Math.imul(this.factors[2 * half + 1], wordAt(bytes, p.remotePortAt))) | 0;
    return sum >>> (32 - this.slotBits);
  }

  private slotOfKey(key: string): number {
    let sum = 0;
    for (let i = 0; 2 * i < key.length; i++) {
      const word = (key.charCodeAt(2 * i) << 8) | key.charCodeAt(2 * i + 1);
      sum = (sum + Math.imul(this.factors[i], word)) | 0;
    }
    return sum >>> (32 - this.slotBits);
  }
}

const emptySlots = (bits: number): (Connection | undefined)[] => new Array(2 ** bits).fill(undefined);

const wordAt = (bytes: Uint8Array, at: number): number => (bytes[at] << 8) | bytes[at + 1];

/** Whether these are the bytes that `flowKey` would make `key` of. */
function isKeyOf(key: string, bytes: Uint8Array, p: FlowPlace): boolean {
  const side = p.addressBytes + 2;
  if (key.length !== 2 * side) return false;
  for (let i = 0; i < p.addressBytes; i++) {
    if (key.charCodeAt(i) !== bytes[p.localAt + i] || key.charCodeAt(side + i) !== bytes[p.remoteAt + i])
      return false;
  }
  const at = p.addressBytes;
  return (
    key.charCodeAt(at) === bytes[p.localPortAt] &&
    key.charCodeAt(at + 1) === bytes[p.localPortAt + 1] &&
    key.charCodeAt(side + at) === bytes[p.remotePortAt] &&
    key.charCodeAt(side + at + 1) === bytes[p.remotePortAt + 1]
  );
}
