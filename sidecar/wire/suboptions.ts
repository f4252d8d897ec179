// The suboptions of a CRYPT option (wire.md, section 1) and the lists inside PKCONF. The bodies of all CRYPT options
// of a header are one list; parsing takes any bytes and returns the list or 'malformed'. An empty list is a HELLO
// in a SYN, which the caller says, not this file.

import { concat, read32, write32 } from './bytes.ts';

export const HELLO = 0x01;
export const HELLO_APP_SUPPORT = 0x02;
export const HELLO_APP_MANDATORY = 0x03;
export const DECLINE = 0x04;
export const NEXTK2 = 0x05;
export const NEXTK2_APP_SUPPORT = 0x06;
export const INIT1 = 0x07;
export const INIT2 = 0x08;
export const PKCONF = 0x41;
export const PKCONF_APP_SUPPORT = 0x42;
export const UNKNOWN = 0x43;
export const SYNCOOKIE = 0x44;
export const ACKCOOKIE = 0x45;
export const SYNC_REQ = 0x80;
export const SYNC_OK = 0x81;
export const REKEY = 0x82;
export const REKEYSTREAM = 0x83;
export const NEXTK1 = 0x84;
export const IV = 0x85;

export type Suboption = { readonly opcode: number; readonly data: Uint8Array };

export type Suboptions = {
  list: Suboption[];
  /** Opcodes 0xc0-0xff that were met: whoever sent them wants an UNKNOWN if it is not understood. */
  unknownMandatory: number[];
};

const NO_DATA = new Uint8Array(0);
const MAX_COUNTED_DATA_BYTES = 253; // the length byte counts opcode and itself

// Data bytes of opcodes 0x80-0xbf, by opcode. What is not here ends the reading of its option.
const FIXED_DATA_BYTES: Readonly<Record<number, number>> = {
  [SYNC_REQ]: 4,
  [SYNC_OK]: 4,
  [REKEY]: 1,
  [REKEYSTREAM]: 5,
  [NEXTK1]: 9,
};

/** Reads the bodies of a header's CRYPT options as one list. 'malformed': one that cannot be read to its end. */
export function parseSuboptions(bodies: readonly Uint8Array[]): Suboptions | 'malformed' {
  const found: Suboptions = { list: [], unknownMandatory: [] };
  for (const body of bodies) {
    for (let at = 0; at < body.length; ) {
      const opcode = body[at];
      if (opcode >= 0xc0) {
        found.unknownMandatory.push(opcode);
        break;
      }
      const extent = dataExtent(body, at);
      if (extent === 'malformed') return 'malformed';
      if (extent === undefined) break;
      found.list.push({ opcode, data: body.subarray(at + extent.head, extent.end) });
      at = extent.end;
    }
  }
  return found;
}

// How many bytes come before a suboption's data and where that ends; undefined where nothing tells.
function dataExtent(body: Uint8Array, at: number): { head: number; end: number } | 'malformed' | undefined {
  const opcode = body[at];
  if (opcode < 0x40) return { head: 1, end: at + 1 };
  if (opcode < 0x80) {
    if (at + 1 >= body.length) return 'malformed';
    const length = body[at + 1];
    return length < 2 || at + length > body.length ? 'malformed' : { head: 2, end: at + length };
  }
  const fixed = FIXED_DATA_BYTES[opcode];
  if (fixed === undefined) return undefined;
  return at + 1 + fixed > body.length ? 'malformed' : { head: 1, end: at + 1 + fixed };
}

/** The body of one CRYPT option. RangeError for data of a length that the opcode's class cannot carry. */
export function encodeSuboptions(list: readonly Suboption[]): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const { opcode, data } of list) {
    const expected = opcode < 0x40 ? 0 : FIXED_DATA_BYTES[opcode];
    const counted = opcode >= 0x40 && opcode < 0x80;
    if (counted ? data.length > MAX_COUNTED_DATA_BYTES : data.length !== (expected ?? data.length)) {
      throw new RangeError(`suboption 0x${opcode.toString(16)} with ${data.length} bytes of data`);
    }
    parts.push(counted ? Uint8Array.of(opcode, data.length + 2) : Uint8Array.of(opcode), data);
  }
  return concat(parts);
}

/** A suboption; without data unless some is given. */
export function suboption(opcode: number, data: Uint8Array = NO_DATA): Suboption {
  return { opcode, data };
}

/** The first suboption with this opcode. */
export function find(list: readonly Suboption[], opcode: number): Suboption | undefined {
  return list.find((entry) => entry.opcode === opcode);
}

/**
 * The algorithm specifiers in a PKCONF: 3 bytes each. One whose top bit is set has a form not known today; it and
 * what follows is skipped. 'malformed': no data, or a last specifier that is cut.
 */
export function parseSpecifiers(data: Uint8Array): number[] | 'malformed' {
  if (data.length === 0) return 'malformed';
  const ids: number[] = [];
  for (let at = 0; at < data.length && data[at] < 0x80; at += 3) {
    if (at + 3 > data.length) return 'malformed';
    ids.push((data[at] << 16) | (data[at + 1] << 8) | data[at + 2]);
  }
  return ids;
}

export function encodeSpecifiers(ids: readonly number[]): Uint8Array {
  return Uint8Array.from(ids.flatMap((id) => [(id >>> 16) & 0x7f, (id >>> 8) & 0xff, id & 0xff]));
}

/** The 32-bit integer at the start of a suboption's data: a clock value. */
export function uint32(data: Uint8Array): number {
  return read32(data, 0);
}

export function uint32Bytes(n: number): Uint8Array {
  const bytes = new Uint8Array(4);
  write32(bytes, 0, n);
  return bytes;
}
