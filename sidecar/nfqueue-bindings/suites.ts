/**
 * The cipher suites with the addon's transforms: the same bytes as crypto/asm.ts makes, which stays as the readable
 * reference and for whoever runs without the addon. A packet is sealed or opened in one call, and
 * allocates nothing.
 */
import { type Asm, type SegmentInPlace, type Suite, suites, UNCHECKED } from '../crypto/asm.ts';
import type { Hmac } from '../crypto/kdf.ts';
import { slabs } from '../wire/bytes.ts';
import { coded, native } from './native.ts';

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
const description = new Uint8Array(104);
const numbers = new Float64Array(description.buffer, 0, 3);
const places = new Uint32Array(description.buffer, 24, 4);
const restOfSum = new Int32Array(description.buffer, 40, 1);
const ASSOC_AT = 44;

function describe(transform: number, segment: SegmentInPlace, rest: number): Uint8Array {
  const { assoc, assocBytes } = segment;
  numbers[0] = segment.offset;
  numbers[1] = segment.ackOffset;
  numbers[2] = transform;
  places[0] = segment.tagAt;
  places[1] = segment.dataAt;
  places[2] = segment.end;
  places[3] = assocBytes;
  restOfSum[0] = rest;
  for (let i = 0; i < assocBytes; i++) description[ASSOC_AT + i] = assoc[i]!;
  return description;
}

const MAC_BYTES = 16;
const tagBytes = slabs(4096);

/** Its keys stay with the addon until `destroy`: the garbage collector does not look after them. */
class NativeAsm implements Asm {
  readonly #transform: number;

  constructor(suiteId: number, directionKey: Uint8Array) {
    this.#transform = coded(() => native.makeTransform(suiteId, directionKey));
  }

  get macBytes(): 16 {
    return MAC_BYTES;
  }

  crypt(offset: number, data: Uint8Array): void {
    native.crypt(this.#transform, offset, data);
  }

  tag(ciphertext: Uint8Array, assoc: Uint8Array, ackOffset: number): Uint8Array {
    const tag = tagBytes(MAC_BYTES);
    native.tag(this.#transform, ciphertext, assoc, ackOffset, tag);
    return tag;
  }

  seal(segment: SegmentInPlace, summed = true): number {
    return native.seal(segment.bytes, describe(this.#transform, segment, summed ? 0 : UNCHECKED));
  }

  open(segment: SegmentInPlace, rest: number): number {
    return native.open(segment.bytes, describe(this.#transform, segment, rest));
  }

  destroy(): void {
    native.destroyTransform(this.#transform);
  }
}
