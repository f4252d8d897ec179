/**
 * Encrypted connections by the bytes of a packet, found without making a key: a string a packet costs more than all
 * else that the lookup does. In front of the connection table, which alone decides.
 */
import { flowKeyAt, IPV4_HEADER_BYTES } from '../wire/packet.ts';
import type { Connection } from './connection.ts';

/** A power of two. Connections that share a slot put each other out, and are found by their key again. */
const SLOTS = 4096;

/** Where the addresses and ports of a packet stand, this host's first. */
export interface FlowPlace {
  localAt: number;
  remoteAt: number;
  /** 4 or 16. */
  addressBytes: number;
  localPortAt: number;
  remotePortAt: number;
}

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
  private readonly slots: (Connection | undefined)[] = new Array(SLOTS).fill(undefined);
  private readonly table: ReadonlyMap<string, Connection>;

  constructor(table: ReadonlyMap<string, Connection>) {
    this.table = table;
  }

  find(bytes: Uint8Array, place: FlowPlace): Connection | undefined {
    const slot = slotOf(bytes, place);
    const c = this.slots[slot];
    if (c !== undefined && isKeyOf(c.key, bytes, place) && this.table.get(c.key) === c) return c;
    const found = this.table.get(keyOf(bytes, place));
    this.slots[slot] = found;
    return found;
  }
}

/** The last bytes of both addresses and the ports tell connections apart best. */
function slotOf(bytes: Uint8Array, p: FlowPlace): number {
  const last = p.addressBytes - 1;
  const ports =
    (bytes[p.localPortAt] << 8) ^
    bytes[p.localPortAt + 1] ^
    (((bytes[p.remotePortAt] << 8) | bytes[p.remotePortAt + 1]) * 5);
  const addresses =
    bytes[p.remoteAt + last] * 77 + bytes[p.remoteAt + last - 1] * 31 + bytes[p.localAt + last];
  return (ports + addresses) & (SLOTS - 1);
}

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

const keyOf = (bytes: Uint8Array, p: FlowPlace): string =>
  flowKeyAt(bytes, p.addressBytes === 4 ? 4 : 6, p.localAt, p.remoteAt, p.localPortAt, p.remotePortAt);
