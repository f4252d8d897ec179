/**
 * The cipher suites with the addon's transforms: the same bytes as crypto/asm.ts makes, which stays as the readable
 * reference and for whoever runs without the addon. A packet is sealed or opened in one call, and
 * allocates nothing.
 */
import { type Asm, type SegmentInPlace, type Suite, suites, UNCHECKED } from '../crypto/asm.ts';
import type { Hmac } from '../crypto/kdf.ts';
import { slabs } from '../wire/bytes.ts';
import { coded, type NativeTransform, native } from './native.ts';

/** As `suites` of crypto/asm.ts. */
export const nativeSuites: ReadonlyMap<number, Suite> = new Map(
  [...suites.values()].map((suite) => [
    suite.id,
    { ...suite, asm: (directionKey) => new NativeAsm(suite.id, directionKey) },
  ]),
);

/** For `useHmac` of crypto/kdf.ts. */
export const nativeHmac: Hmac = native.hmac;

/** A segment as the addon reads it (SegmentDescription in src/transform-binding.cc). */
const description = new Uint8Array(96);
const offsets = new Float64Array(description.buffer, 0, 2);
const places = new Uint32Array(description.buffer, 16, 4);
const restOfSum = new Int32Array(description.buffer, 32, 1);
const ASSOC_AT = 36;

function describe(segment: SegmentInPlace, rest: number): Uint8Array {
  const { assoc, assocBytes } = segment;
  offsets[0] = segment.offset;
  offsets[1] = segment.ackOffset;
  places[0] = segment.tagAt;
  places[1] = segment.dataAt;
  places[2] = segment.end;
  places[3] = assocBytes;
  restOfSum[0] = rest;
  for (let i = 0; i < assocBytes; i++) description[ASSOC_AT + i] = assoc[i]!;
  return description;
}

const tagBytes = slabs(4096);

class NativeAsm implements Asm {
  readonly macBytes = 16;
  readonly #native: NativeTransform;

  constructor(suiteId: number, directionKey: Uint8Array) {
    this.#native = coded(() => new native.Transform(suiteId, directionKey));
  }

  crypt(offset: number, data: Uint8Array): void {
    this.#native.crypt(offset, data);
  }

  tag(ciphertext: Uint8Array, assoc: Uint8Array, ackOffset: number): Uint8Array {
    const tag = tagBytes(this.macBytes);
    this.#native.tag(ciphertext, assoc, ackOffset, tag);
    return tag;
  }

  seal(segment: SegmentInPlace, summed = true): number {
    return this.#native.seal(segment.bytes, describe(segment, summed ? 0 : UNCHECKED));
  }

  open(segment: SegmentInPlace, rest: number): number {
    return this.#native.open(segment.bytes, describe(segment, rest));
  }

  destroy(): void {
    this.#native.destroy();
  }
}
