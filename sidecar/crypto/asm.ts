/**
 * The cipher suites, as wire.md sections 2 and 5 define them: what the draft calls an
 * authenticated sequence mode (ASM) is a counter mode by stream offset, a MAC over the segment and
 * a MAC over the ACK offset.
 *
 * `crypto/` holds primitives: bytes and keys in, bytes out. It imports `node:crypto`; of the
 * other layers only `wire/`. It keeps no state but keys, takes every random byte as an argument (all but
 * the one that OpenSSL must draw, mlkem.ts), and never throws because of what a peer sent.
 */
import { timingSafeEqual } from 'node:crypto';
import { onesComplementSum } from '../wire/checksum.ts';
import { cprf } from './kdf.ts';
import { aesCtr, chacha20, type Keystream } from './keystream.ts';
import { aesOfBlock, cmacAes128, ghashThenAes, hmacSha256, MAC_BYTES, type Mac, xorInto } from './mac.ts';

/** One direction of one key generation of a connection. */
export interface Asm {
  readonly macBytes: 16;
  /**
   * XORs the keystream of stream offset `offset` (at most 2^53) into `data`, in place. It encrypts and
   * decrypts, and gives the same bytes however the stream is cut.
   */
  crypt(offset: number, data: Uint8Array): void;
  /**
   * The tag of a segment: MAC1 over `ciphertext | assoc` XOR MAC2 over `ackOffset` (0 without ACK).
   * 16 bytes. `assoc` is Assoc-Data of wire.md section 5.
   */
  tag(ciphertext: Uint8Array, assoc: Uint8Array, ackOffset: number): Uint8Array;
  /**
   * Encrypts the segment's data in place and writes its tag, in one call. Returns the Internet checksum's sum over
   * the ciphertext, so that the packet's checksum needs no second pass over it; any number if it is not `summed`
   * (default: it is).
   */
  seal(segment: SegmentInPlace, summed?: boolean): number;
  /**
   * Verifies a segment, in constant time, and if its tag is right decrypts its data in place. `rest` is the sum over
   * all that the TCP checksum covers but the data, or UNCHECKED. Returns the sum over the plaintext; or BAD_CHECKSUM or
   * BAD_TAG, and nothing is changed.
   */
  open(segment: SegmentInPlace, rest: number): number;
  /** Zeroes the keys. Any later use throws. */
  destroy(): void;
}

/** What `open` answers instead of a sum. The checksum is looked at first: damage is no forgery. */
export const BAD_CHECKSUM = -1;
export const BAD_TAG = -2;
/** For `open`: the checksum is not complete, or was looked at already. */
export const UNCHECKED = -1;

/**
 * A segment in a buffer, for `seal` and `open`. One object serves all packets, filled anew for each, so that none
 * is made for a packet.
 */
export interface SegmentInPlace {
  bytes: Uint8Array;
  /** Where the 16 bytes of the tag are, before the data; data is bytes[dataAt, end). */
  tagAt: number;
  dataAt: number;
  end: number;
  /** Assoc-Data: the first `assocBytes` of it. */
  assoc: Uint8Array;
  assocBytes: number;
  /** As for `crypt` and `tag`. */
  offset: number;
  ackOffset: number;
}

export interface Suite {
  readonly id: number;
  /** The name by which policy calls it. */
  readonly name: string;
  /** Whether one MAC covers a super-segment (wire.md section 6). */
  readonly aggregate: boolean;
  /** `directionKey` is k_cs or k_sc, 32 bytes; it stays the caller's to erase. */
  asm(directionKey: Uint8Array): Asm;
}

/** The keys of one direction, wire.md section 3. */
export interface DirectionKeys {
  readonly enc: Uint8Array;
  readonly mac: Uint8Array;
  readonly ack: Uint8Array;
}

interface Transform {
  readonly id: number;
  readonly name: string;
  readonly encBytes: 16 | 32;
  readonly ackBytes: 16 | 32;
  readonly keystream: Keystream;
  readonly mac: (key: Uint8Array) => Mac;
  /** How much of the 32-byte k_mac the MAC takes. */
  readonly macKeyBytes: 16 | 32;
  readonly ackMac: (key: Uint8Array) => Mac;
}

const transforms: readonly Transform[] = [
  {
    id: 0x100,
    name: 'AES-128-CTR-HMAC-SHA256',
    encBytes: 16,
    ackBytes: 16,
    keystream: aesCtr,
    mac: hmacSha256,
    macKeyBytes: 32,
    ackMac: aesOfBlock,
  },
  {
    id: 0x300,
    name: 'AES-128-CTR-CMAC',
    encBytes: 16,
    ackBytes: 16,
    keystream: aesCtr,
    mac: cmacAes128,
    macKeyBytes: 16,
    ackMac: aesOfBlock,
  },
  {
    id: 0x400,
    name: 'AES-256-CTR-HMAC-SHA256',
    encBytes: 32,
    ackBytes: 32,
    keystream: aesCtr,
    mac: hmacSha256,
    macKeyBytes: 32,
    ackMac: aesOfBlock,
  },
  {
    id: 0x500,
    name: 'CHACHA20-HMAC-SHA256',
    encBytes: 32,
    ackBytes: 32,
    keystream: chacha20,
    mac: hmacSha256,
    macKeyBytes: 32,
    ackMac: hmacSha256,
  },
  {
    id: 0x600,
    name: 'AES-128-CTR-GMAC',
    encBytes: 16,
    ackBytes: 16,
    keystream: aesCtr,
    mac: ghashThenAes,
    macKeyBytes: 32,
    ackMac: aesOfBlock,
  },
];

/** Every suite by its id; an aggregate twin has id + 1 and the same transforms. */
export const suites: ReadonlyMap<number, Suite> = new Map(
  transforms
    .flatMap((transform) => [suiteOf(transform, false), suiteOf(transform, true)])
    .map((suite) => [suite.id, suite]),
);

/** k_enc, k_mac and k_ack of one direction, for those who run the transforms elsewhere. */
export function deriveKeys(suiteId: number, directionKey: Uint8Array): DirectionKeys {
  return keysOf(transformOf(suiteId), directionKey);
}

/** An ASM from keys that are derived already. They are its own from then on: `destroy` zeroes them. */
export function asmFromKeys(suiteId: number, keys: DirectionKeys): Asm {
  return new KeyedAsm(transformOf(suiteId), keys);
}

/** Compares two tags in constant time; false where their lengths differ. */
export function equalTags(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

function suiteOf(transform: Transform, aggregate: boolean): Suite {
  return {
    id: transform.id + (aggregate ? 1 : 0),
    name: transform.name + (aggregate ? '-AGGREGATE' : ''),
    aggregate,
    asm: (directionKey) => new KeyedAsm(transform, keysOf(transform, directionKey)),
  };
}

function transformOf(suiteId: number): Transform {
  const transform = suites.has(suiteId) ? transforms.find(({ id }) => id === (suiteId & ~1)) : undefined;
  if (transform === undefined) throw new RangeError(`there is no suite 0x${suiteId.toString(16)}`);
  return transform;
}

function keysOf(transform: Transform, directionKey: Uint8Array): DirectionKeys {
  if (directionKey.length !== 32)
    throw new RangeError(`a direction key has 32 bytes, not ${directionKey.length}`);
  return {
    enc: cprf(directionKey, 0x06, transform.encBytes),
    mac: cprf(directionKey, 0x07, 32),
    ack: cprf(directionKey, 0x08, transform.ackBytes),
  };
}

const NOTHING = new Uint8Array(0);

class KeyedAsm implements Asm {
  readonly macBytes = MAC_BYTES;
  readonly #keystream: Keystream;
  readonly #keys: DirectionKeys;
  readonly #segmentMac: Mac;
  readonly #ackMac: Mac;
  /** 0^64 | acknowledgement offset. */
  readonly #ackBlock = Buffer.alloc(16);
  #destroyed = false;

  constructor(transform: Transform, keys: DirectionKeys) {
    this.#keystream = transform.keystream;
    this.#keys = keys;
    this.#segmentMac = transform.mac(keys.mac.subarray(0, transform.macKeyBytes));
    this.#ackMac = transform.ackMac(keys.ack);
  }

  crypt(offset: number, data: Uint8Array): void {
    this.#mustLive();
    this.#keystream(this.#keys.enc, offset, data);
  }

  tag(ciphertext: Uint8Array, assoc: Uint8Array, ackOffset: number): Uint8Array {
    this.#mustLive();
    this.#ackBlock.writeUInt32BE(Math.floor(ackOffset / 2 ** 32), 8);
    this.#ackBlock.writeUInt32BE(ackOffset % 2 ** 32, 12);
    const tag = new Uint8Array(this.#segmentMac.compute(ciphertext, assoc));
    xorInto(tag, this.#ackMac.compute(this.#ackBlock, NOTHING));
    return tag;
  }

  seal(segment: SegmentInPlace): number {
    const { bytes, tagAt, dataAt, end, offset } = segment;
    const data = bytes.subarray(dataAt, end);
    this.crypt(offset, data);
    bytes.set(this.#tagOf(segment, data), tagAt);
    return onesComplementSum(data, 0, data.length);
  }

  open(segment: SegmentInPlace, rest: number): number {
    const { bytes, tagAt, dataAt, end, offset } = segment;
    const data = bytes.subarray(dataAt, end);
    this.#mustLive();
    const checked = rest !== UNCHECKED;
    if (checked && onesComplementSum(data, 0, data.length, rest) !== 0xffff) return BAD_CHECKSUM;
    if (!equalTags(this.#tagOf(segment, data), bytes.subarray(tagAt, tagAt + MAC_BYTES))) return BAD_TAG;
    this.crypt(offset, data);
    return onesComplementSum(data, 0, data.length);
  }

  #tagOf({ assoc, assocBytes, ackOffset }: SegmentInPlace, ciphertext: Uint8Array): Uint8Array {
    return this.tag(ciphertext, assoc.subarray(0, assocBytes), ackOffset);
  }

  destroy(): void {
    if (this.#destroyed) return;
    this.#destroyed = true;
    this.#segmentMac.free();
    this.#ackMac.free();
    for (const key of Object.values(this.#keys)) key.fill(0);
  }

  #mustLive(): void {
    if (this.#destroyed) throw new Error('an ASM was used after it was destroyed');
  }
}
