// The messages INIT1 and INIT2 that travel as data in the stream's first bytes, with their TLVs (wire.md, sections 3
// and 7). A message is exactly as long as it says; decoding takes any bytes and returns the message or 'malformed'.
// Points, suites and key identifiers are bytes and numbers here: crypto/ and protocol/ judge them.

import { concat, read16, read32, write16, write32 } from './bytes.ts';

export const INIT1_MAGIC = 0x2911;
export const INIT2_MAGIC = 0x8310;
/** The most that an INIT's length field may say: none is near it, and it must fit one segment. */
export const MAX_INIT_BYTES = 4096;
export const NONCE_BYTES = 32;

const INIT1_HEAD_BYTES = 12;
const INIT2_HEAD_BYTES = 12;
const SUITE_BYTES = 4;
const KEY_EXCHANGE_BYTES = 4; // a zero byte and the specifier
const TLV_HEAD_BYTES = 3;
const INIT1_MIN_BYTES = INIT1_HEAD_BYTES + SUITE_BYTES + NONCE_BYTES + KEY_EXCHANGE_BYTES;
const INIT2_MIN_BYTES = INIT2_HEAD_BYTES;

export type Tlv = { type: number; value: Uint8Array };

export type Init1 = {
  /** 32-bit ids, at least one. */
  suites: number[];
  /** N_C, 32 bytes. */
  nonce: Uint8Array;
  /** The 3-byte specifier that C chose out of PKCONF. */
  keyExchange: number;
  /** PK_C in that exchange's encoding. */
  publicKey: Uint8Array;
  tlvs: Tlv[];
};

export type Init2 = {
  suite: number;
  /** What the exchange says; for all but RSA see `encodeKeyMaterial`. */
  keyMaterial: Uint8Array;
  tlvs: Tlv[];
};

/** INIT1 as bytes. RangeError for no suite, a nonce of another length, or a message over MAX_INIT_BYTES. */
export function encodeInit1(init: Init1): Uint8Array {
  if (init.suites.length === 0) throw new RangeError('INIT1 without a suite');
  if (init.nonce.length !== NONCE_BYTES) throw new RangeError(`a nonce of ${init.nonce.length} bytes`);
  const head = new Uint8Array(INIT1_HEAD_BYTES + SUITE_BYTES * init.suites.length);
  write16(head, 4, INIT1_MAGIC);
  write16(head, 6, init.suites.length);
  write16(head, 8, init.nonce.length);
  write16(head, 10, init.publicKey.length);
  init.suites.forEach((suite, i) => {
    write32(head, INIT1_HEAD_BYTES + SUITE_BYTES * i, suite);
  });
  const exchange = new Uint8Array(KEY_EXCHANGE_BYTES);
  write32(exchange, 0, init.keyExchange & 0xffffff);
  return withLength([head, init.nonce, exchange, init.publicKey, ...init.tlvs.map(encodeTlv)]);
}

/** INIT2 as bytes. RangeError for a message over MAX_INIT_BYTES. */
export function encodeInit2(init: Init2): Uint8Array {
  const head = new Uint8Array(INIT2_HEAD_BYTES);
  write16(head, 4, INIT2_MAGIC);
  write16(head, 6, init.keyMaterial.length);
  write32(head, 8, init.suite);
  return withLength([head, init.keyMaterial, ...init.tlvs.map(encodeTlv)]);
}

function encodeTlv({ type, value }: Tlv): Uint8Array {
  return concat([Uint8Array.of(type, value.length >>> 8, value.length), value]);
}

function withLength(parts: readonly Uint8Array[]): Uint8Array {
  const message = concat(parts);
  if (message.length > MAX_INIT_BYTES) throw new RangeError(`an INIT of ${message.length} bytes`);
  write32(message, 0, message.length);
  return message;
}

/** INIT1 out of a segment's data; its arrays share memory with that. */
export function decodeInit1(bytes: Uint8Array): Init1 | 'malformed' {
  if (!isWhole(bytes, INIT1_MAGIC, INIT1_MIN_BYTES)) return 'malformed';
  const suiteCount = read16(bytes, 6);
  const nonceAt = INIT1_HEAD_BYTES + SUITE_BYTES * suiteCount;
  const exchangeAt = nonceAt + NONCE_BYTES;
  const publicKeyAt = exchangeAt + KEY_EXCHANGE_BYTES;
  const tlvsAt = publicKeyAt + read16(bytes, 10);
  if (suiteCount === 0 || read16(bytes, 8) !== NONCE_BYTES || tlvsAt > bytes.length) return 'malformed';
  if (bytes[exchangeAt] !== 0) return 'malformed';
  const tlvs = decodeTlvs(bytes, tlvsAt);
  if (tlvs === 'malformed') return 'malformed';
  const suites: number[] = [];
  for (let at = INIT1_HEAD_BYTES; at < nonceAt; at += SUITE_BYTES) suites.push(read32(bytes, at));
  return {
    suites,
    nonce: bytes.subarray(nonceAt, exchangeAt),
    keyExchange: read32(bytes, exchangeAt),
    publicKey: bytes.subarray(publicKeyAt, tlvsAt),
    tlvs,
  };
}

/** INIT2 out of a segment's data; its arrays share memory with that. */
export function decodeInit2(bytes: Uint8Array): Init2 | 'malformed' {
  if (!isWhole(bytes, INIT2_MAGIC, INIT2_MIN_BYTES)) return 'malformed';
  const tlvsAt = INIT2_HEAD_BYTES + read16(bytes, 6);
  if (tlvsAt > bytes.length) return 'malformed';
  const tlvs = decodeTlvs(bytes, tlvsAt);
  if (tlvs === 'malformed') return 'malformed';
  return { suite: read32(bytes, 8), keyMaterial: bytes.subarray(INIT2_HEAD_BYTES, tlvsAt), tlvs };
}

function isWhole(bytes: Uint8Array, magic: number, minBytes: number): boolean {
  return (
    bytes.length >= minBytes &&
    bytes.length <= MAX_INIT_BYTES &&
    read32(bytes, 0) === bytes.length &&
    read16(bytes, 4) === magic
  );
}

function decodeTlvs(bytes: Uint8Array, start: number): Tlv[] | 'malformed' {
  const tlvs: Tlv[] = [];
  let at = start;
  while (at < bytes.length) {
    const valueAt = at + TLV_HEAD_BYTES;
    if (valueAt > bytes.length) return 'malformed';
    const end = valueAt + read16(bytes, at + 1);
    if (end > bytes.length) return 'malformed';
    tlvs.push({ type: bytes[at], value: bytes.subarray(valueAt, end) });
    at = end;
  }
  return tlvs;
}

/**
 * Where in an encoded INIT1 or INIT2 the value of its first TLV of this type begins; undefined if there is none.
 * The confirm field is filled in there once the keys are made (wire.md, section 7).
 */
export function tlvValueOffset(bytes: Uint8Array, which: 1 | 2, type: number): number | undefined {
  const decoded = which === 1 ? decodeInit1(bytes) : decodeInit2(bytes);
  if (decoded === 'malformed') return undefined;
  const tlv = decoded.tlvs.find((entry) => entry.type === type);
  return tlv === undefined ? undefined : tlv.value.byteOffset - bytes.byteOffset;
}

/** The key material of every exchange but RSA: the length of N_S, N_S, then the server's share. */
export function encodeKeyMaterial(nonce: Uint8Array, rest: Uint8Array): Uint8Array {
  if (nonce.length !== NONCE_BYTES) throw new RangeError(`a nonce of ${nonce.length} bytes`);
  return concat([Uint8Array.of(nonce.length), nonce, rest]);
}

/** The reverse of `encodeKeyMaterial`; the arrays share memory with the argument. */
export function decodeKeyMaterial(bytes: Uint8Array): { nonce: Uint8Array; rest: Uint8Array } | 'malformed' {
  if (bytes.length < 1 + NONCE_BYTES || bytes[0] !== NONCE_BYTES) return 'malformed';
  return { nonce: bytes.subarray(1, 1 + NONCE_BYTES), rest: bytes.subarray(1 + NONCE_BYTES) };
}

/**
 * Whether data begins as that INIT does, whole or cut: its magic and a length that it could have. Such data at the
 * start of a stream never reaches a kernel (wire.md section 4, "Falling back", rule 2).
 */
export function beginsLikeInit(bytes: Uint8Array, which: 1 | 2): boolean {
  if (bytes.length < 6) return false;
  if (read16(bytes, 4) !== (which === 1 ? INIT1_MAGIC : INIT2_MAGIC)) return false;
  const length = read32(bytes, 0);
  return length >= (which === 1 ? INIT1_MIN_BYTES : INIT2_MIN_BYTES) && length <= MAX_INIT_BYTES;
}
