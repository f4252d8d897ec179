/**
 * The cipher suites with the addon's transforms: the same bytes as crypto/asm.ts makes, which stays as the readable
 * reference and for whoever runs without the addon. A packet is sealed or opened in one call, with the contexts of
 * its keys kept, and allocates nothing.
 */
import { type Asm, deriveKeys, type SegmentInPlace, type Suite, suites } from '../crypto/asm.ts';
import type { Hmac } from '../crypto/kdf.ts';
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

class NativeAsm implements Asm {
  readonly macBytes = 16;
  readonly #native: NativeTransform;

  constructor(suiteId: number, directionKey: Uint8Array) {
    const { enc, mac, ack } = deriveKeys(suiteId, directionKey);
    try {
      this.#native = coded(() => new native.Transform(suiteId, enc, mac, ack));
    } finally {
      for (const key of [enc, mac, ack]) key.fill(0);
    }
  }

  crypt(offset: number, data: Uint8Array): void {
    this.#native.crypt(offset, data);
  }

  tag(ciphertext: Uint8Array, assoc: Uint8Array, ackOffset: number): Uint8Array {
    const tag = new Uint8Array(this.macBytes);
    this.#native.tag(ciphertext, assoc, ackOffset, tag);
    return tag;
  }

  seal({ bytes, tagAt, dataAt, end, assoc, assocBytes, offset, ackOffset }: SegmentInPlace): number {
    return this.#native.seal(bytes, tagAt, dataAt, end, assoc, assocBytes, offset, ackOffset);
  }

  open(
    { bytes, tagAt, dataAt, end, assoc, assocBytes, offset, ackOffset }: SegmentInPlace,
    rest: number,
  ): number {
    return this.#native.open(bytes, tagAt, dataAt, end, assoc, assocBytes, offset, ackOffset, rest);
  }

  destroy(): void {
    this.#native.destroy();
  }
}
