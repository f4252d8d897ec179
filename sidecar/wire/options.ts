// TCP options: out of a header and into one (RFC 9293 section 3.1, RFC 7323, RFC 2018, RFC 6994; wire.md section 1
// for CRYPT and MAC in both encodings). `parseOptions` takes any bytes and returns the options or 'malformed'.

import { read16, read32, write16, write32 } from './bytes.ts';

export const MAX_OPTION_BYTES = 40;

export const KIND_EOL = 0;
export const KIND_NOP = 1;
export const KIND_MSS = 2;
export const KIND_WINDOW_SCALE = 3;
export const KIND_SACK_PERMITTED = 4;
export const KIND_SACK = 5;
export const KIND_TIMESTAMPS = 8;
export const KIND_MD5 = 19;
export const KIND_TCP_AO = 29;
export const KIND_MPTCP = 30;
export const KIND_FAST_OPEN = 34;
export const KIND_CRYPT = 69;
export const KIND_MAC = 70;
export const KIND_EXPERIMENT_1 = 253;
export const KIND_EXPERIMENT_2 = 254;

export const EXID_CRYPT = 0x5443;
export const EXID_MAC = 0x544d;
const EXID_FAST_OPEN = 0xf989; // RFC 7413, appendix

export const MAC_TAG_BYTES = 16;
/** Body of an aggregate MAC: tag, start16, len16 (wire.md, section 6). */
export const AGGREGATE_MAC_BYTES = 20;

/** How CRYPT and MAC are encoded. With `readBoth` false only the encoding that is written is read. */
export type OptionEncodings = { readonly write: 'experimental' | 'legacy'; readonly readBoth: boolean };

export type TcpOptions = {
  /** Raw options in order, other than NOP, EOL, CRYPT and MAC; they share memory with the header, as all below. */
  items: Uint8Array[];
  /** Bodies of the CRYPT options, without ExID. */
  crypt: Uint8Array[];
  /** How many MAC options there are. */
  macs: number;
  /** The body of the first: 16 bytes, or 20 for an aggregate; undefined if of another length. */
  mac: Uint8Array | undefined;
  mss?: number;
  windowScale?: number;
  sackPermitted: boolean;
  timestamps?: { val: number; ecr: number };
  /** Edges of all SACK blocks, as on the wire. */
  sack: [number, number][];
  /** An option with which tcpcrypt is not offered (wire.md, section 4). */
  incompatible?: 'fast_open' | 'mptcp' | 'md5' | 'tcp_ao';
};

/**
 * The length of the option at `at`: 1 for a NOP, 0 at the end (EOL included), -1 if its length byte is missing,
 * below 2 or leads past `end`. The step of every walk over options.
 */
export function optionLength(bytes: Uint8Array, at: number, end: number): number {
  if (at >= end || bytes[at] === KIND_EOL) return 0;
  if (bytes[at] === KIND_NOP) return 1;
  if (at + 1 >= end) return -1;
  const length = bytes[at + 1];
  return length < 2 || at + length > end ? -1 : length;
}

/** Whether the option at `at` is a CRYPT or MAC in an encoding that is read; its body begins after `headBytes`. */
export function ourOption(
  bytes: Uint8Array,
  at: number,
  length: number,
  encodings: OptionEncodings,
): 'crypt' | 'mac' | undefined {
  const kind = bytes[at];
  if (kind === KIND_EXPERIMENT_1) {
    if (length < 4 || (encodings.write === 'legacy' && !encodings.readBoth)) return undefined;
    const exid = read16(bytes, at + 2);
    return exid === EXID_MAC ? 'mac' : exid === EXID_CRYPT ? 'crypt' : undefined;
  }
  if (kind !== KIND_CRYPT && kind !== KIND_MAC) return undefined;
  if (encodings.write === 'experimental' && !encodings.readBoth) return undefined;
  return kind === KIND_MAC ? 'mac' : 'crypt';
}

/** Bytes before the body of a CRYPT or MAC option of this kind: kind, length and, for kind 253, ExID. */
export function headBytes(kind: number): number {
  return kind === KIND_EXPERIMENT_1 ? 4 : 2;
}

/** Reads a header's option bytes. 'malformed': a bad length byte, or MSS, timestamps or SACK of a wrong size. */
export function parseOptions(options: Uint8Array, encodings: OptionEncodings): TcpOptions | 'malformed' {
  const found: TcpOptions = { items: [], crypt: [], macs: 0, mac: undefined, sackPermitted: false, sack: [] };
  let at = 0;
  for (;;) {
    const length = optionLength(options, at, options.length);
    if (length === 0) return found;
    if (length < 0) return 'malformed';
    if (length > 1 && !addOption(found, options, at, length, encodings)) return 'malformed';
    at += length;
  }
}

function addOption(
  found: TcpOptions,
  options: Uint8Array,
  at: number,
  length: number,
  encodings: OptionEncodings,
): boolean {
  const ours = ourOption(options, at, length, encodings);
  if (ours !== undefined) {
    const body = options.subarray(at + headBytes(options[at]), at + length);
    if (ours === 'crypt') found.crypt.push(body);
    else if (++found.macs === 1 && (body.length === MAC_TAG_BYTES || body.length === AGGREGATE_MAC_BYTES)) {
      found.mac = body;
    }
    return true;
  }
  found.items.push(options.subarray(at, at + length));
  return readKnown(found, options, at, length);
}

// Where an option comes twice the last counts, as in Linux; window scale and SACK-permitted of a wrong size say
// nothing, as there.
function readKnown(found: TcpOptions, options: Uint8Array, at: number, length: number): boolean {
  switch (options[at]) {
    case KIND_MSS:
      if (length !== 4) return false;
      found.mss = read16(options, at + 2);
      return true;
    case KIND_WINDOW_SCALE:
      if (length === 3) found.windowScale = options[at + 2];
      return true;
    case KIND_SACK_PERMITTED:
      if (length === 2) found.sackPermitted = true;
      return true;
    case KIND_SACK:
      if (length < 10 || (length - 2) % 8 !== 0) return false;
      for (let i = at + 2; i < at + length; i += 8) {
        found.sack.push([read32(options, i), read32(options, i + 4)]);
      }
      return true;
    case KIND_TIMESTAMPS:
      if (length !== 10) return false;
      found.timestamps = { val: read32(options, at + 2), ecr: read32(options, at + 6) };
      return true;
    case KIND_FAST_OPEN:
      found.incompatible ??= 'fast_open';
      return true;
    case KIND_EXPERIMENT_1:
    case KIND_EXPERIMENT_2:
      if (length >= 4 && read16(options, at + 2) === EXID_FAST_OPEN) found.incompatible ??= 'fast_open';
      return true;
    case KIND_MPTCP:
      found.incompatible ??= 'mptcp';
      return true;
    case KIND_MD5:
      found.incompatible ??= 'md5';
      return true;
    case KIND_TCP_AO:
      found.incompatible ??= 'tcp_ao';
      return true;
    default:
      return true;
  }
}

/** Whether the option bytes have a CRYPT or MAC of either encoding; malformed ones end the search. */
export function hasOurOption(options: Uint8Array): boolean {
  let at = 0;
  while (at < options.length) {
    const kind = options[at];
    if (kind === KIND_CRYPT || kind === KIND_MAC) return true;
    const length = optionLength(options, at, options.length);
    if (length <= 0) return false;
    if (kind === KIND_EXPERIMENT_1 && length >= 4) {
      const exid = read16(options, at + 2);
      if (exid === EXID_CRYPT || exid === EXID_MAC) return true;
    }
    at += length;
  }
  return false;
}

/** The kind of a raw option. */
export function optionKind(item: Uint8Array): number {
  return item[0];
}

/** A CRYPT option around a body of suboptions. */
export function cryptOption(body: Uint8Array, encodings: OptionEncodings): Uint8Array {
  return ours(KIND_CRYPT, EXID_CRYPT, body, encodings);
}

/** A MAC option around a body of 16 bytes, or 20 for an aggregate. */
export function macOption(tagBytes: Uint8Array, encodings: OptionEncodings): Uint8Array {
  return ours(KIND_MAC, EXID_MAC, tagBytes, encodings);
}

function ours(legacyKind: number, exid: number, body: Uint8Array, encodings: OptionEncodings): Uint8Array {
  const kind = encodings.write === 'legacy' ? legacyKind : KIND_EXPERIMENT_1;
  const head = headBytes(kind);
  const option = new Uint8Array(head + body.length);
  option[0] = kind;
  option[1] = option.length; // one that is longer than a byte can say fits no header (see layoutCompact)
  if (head === 4) write16(option, 2, exid);
  option.set(body, head);
  return option;
}

export function mssOption(mss: number): Uint8Array {
  return Uint8Array.of(KIND_MSS, 4, mss >>> 8, mss);
}

/** Edges as on the wire. */
export function sackOption(edges: readonly (readonly [number, number])[]): Uint8Array {
  const option = new Uint8Array(2 + 8 * edges.length);
  option[0] = KIND_SACK;
  option[1] = option.length;
  let at = 2;
  for (const [left, right] of edges) {
    write32(option, at, left);
    write32(option, at + 4, right);
    at += 8;
  }
  return option;
}

export function timestampsOption(val: number, ecr: number): Uint8Array {
  const option = new Uint8Array(10);
  option[0] = KIND_TIMESTAMPS;
  option[1] = 10;
  write32(option, 2, val);
  write32(option, 6, ecr);
  return option;
}

/**
 * The options without NOPs between them, NOPs at the end up to a multiple of 4; undefined if they do not fit.
 * What leaves beside a MAC is laid out like this (wire.md section 1, "Option space").
 */
export function layoutCompact(items: readonly Uint8Array[]): Uint8Array | undefined {
  let length = 0;
  for (const item of items) length += item.length;
  if (length > MAX_OPTION_BYTES) return undefined;
  const out = new Uint8Array((length + 3) & ~3);
  let at = 0;
  for (const item of items) {
    out.set(item, at);
    at += item.length;
  }
  return out.fill(KIND_NOP, at);
}

const NOP = Uint8Array.of(KIND_NOP);
const TWO_NOPS = Uint8Array.of(KIND_NOP, KIND_NOP);

/**
 * The options as Linux writes them (tcp_options_write): MSS, SACK-permitted and timestamps, window scale, SACK, each
 * aligned with NOPs before it, then any others; undefined if they do not fit. Segments laid out so keep the
 * receiving kernel's fast path.
 */
export function layoutLinux(items: readonly Uint8Array[]): Uint8Array | undefined {
  const rest = [...items];
  const take = (kind: number): Uint8Array | undefined => {
    const index = rest.findIndex((item) => optionKind(item) === kind);
    return index < 0 ? undefined : rest.splice(index, 1)[0];
  };
  const parts: Uint8Array[] = [];
  const mss = take(KIND_MSS);
  if (mss) parts.push(mss);
  const sackPermitted = take(KIND_SACK_PERMITTED);
  const timestamps = take(KIND_TIMESTAMPS);
  if (timestamps) parts.push(sackPermitted ?? TWO_NOPS, timestamps);
  else if (sackPermitted) parts.push(TWO_NOPS, sackPermitted);
  const windowScale = take(KIND_WINDOW_SCALE);
  if (windowScale) parts.push(NOP, windowScale);
  const sack = take(KIND_SACK);
  if (sack) parts.push(TWO_NOPS, sack);
  return layoutCompact([...parts, ...rest]);
}
