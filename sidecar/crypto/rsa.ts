/** RSA with exponent 3 and OAEP (RFC 8017) with SHA-256 and MGF1-SHA-256: key transport of R_S. */
import {
  constants,
  createPublicKey,
  generateKeyPair,
  generateKeyPairSync,
  type KeyObject,
  privateDecrypt,
  publicEncrypt,
} from 'node:crypto';
import type { KeyExchange } from './key-exchange.ts';
import { plain } from './plain.ts';

export const MODULUS_BITS = 3072;
const MIN_MODULUS_BITS = 2048;
const MAX_MODULUS_BITS = 4096;
const SECRET_BYTES = 48;
const OAEP = { padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' } as const;
/** 3, as a JSON Web Key has it. */
const EXPONENT = 'Aw';

interface KeyPair {
  readonly publicKey: KeyObject;
  readonly privateKey: KeyObject;
}

/** Where C's keys come from. Making one takes a second or so. */
export interface RsaKeys {
  /** Whether `take` has one at hand; has one begun if not. */
  prepare(): boolean;
  take(): KeyPair;
}

const PARAMETERS = { modulusLength: MODULUS_BITS, publicExponent: 3 };

/** Makes each key when it is needed, while everything waits. */
export const rsaKeys: RsaKeys = { prepare: () => true, take: () => generateKeyPairSync('rsa', PARAMETERS) };

/** Keys made ahead by a thread of the pool, each as the one before it is taken; nothing ever waits for one. */
export class RsaStock implements RsaKeys {
  #key: KeyPair | undefined;
  #making = false;

  prepare(): boolean {
    if (this.#key === undefined) this.#make();
    return this.#key !== undefined;
  }

  take(): KeyPair {
    const key = this.#key ?? rsaKeys.take();
    this.#key = undefined;
    this.#make();
    return key;
  }

  #make(): void {
    if (this.#making) return;
    this.#making = true;
    generateKeyPair('rsa', PARAMETERS, (error, publicKey, privateKey) => {
      this.#making = false;
      if (error === null) this.#key = { publicKey, privateKey };
    });
  }
}

/**
 * The public key is the modulus, big-endian and without leading zeros, of any length from 2048 to 4096 bits; key
 * material is as long as the modulus. A key, like OAEP's seed, draws on
 * OpenSSL's own randomness: a simulation with this exchange is not repeatable.
 */
export const rsaOaep = (keys: RsaKeys): KeyExchange => ({
  id: 0x100,
  name: 'RSA-OAEP',
  publicKeyBytes: MODULUS_BITS / 8,
  keyMaterialBytes: MODULUS_BITS / 8,

  prepare: () => keys.prepare(),

  generate() {
    const pair = keys.take();
    let privateKey: KeyObject | undefined = pair.privateKey;
    const publicKey = plain(Buffer.from(pair.publicKey.export({ format: 'jwk' }).n ?? '', 'base64url'));
    return {
      publicKey,
      complete(keyMaterial) {
        if (privateKey === undefined) throw new Error('an offer was used after it was destroyed');
        if (keyMaterial.length !== publicKey.length) return 'invalid';
        try {
          const secret = privateDecrypt({ key: privateKey, ...OAEP }, keyMaterial);
          return secret.length === SECRET_BYTES ? plain(secret) : 'invalid';
        } catch {
          return 'invalid';
        }
      },
      destroy() {
        privateKey = undefined;
      },
    };
  },

  respond(modulus, random) {
    if (!isModulus(modulus)) return 'invalid';
    const pms = random(SECRET_BYTES);
    try {
      const n = Buffer.from(modulus).toString('base64url');
      const key = createPublicKey({ key: { kty: 'RSA', n, e: EXPONENT }, format: 'jwk' });
      return { keyMaterial: plain(publicEncrypt({ key, ...OAEP }, pms)), pms };
    } catch {
      pms.fill(0);
      return 'invalid';
    }
  },
});

/** What can be seen of a modulus without its factors: its size, and that it is odd. */
function isModulus(modulus: Uint8Array): boolean {
  if (modulus.length === 0 || modulus[0] === 0) return false;
  const bits = modulus.length * 8 - (Math.clz32(modulus[0]) - 24);
  return bits >= MIN_MODULUS_BITS && bits <= MAX_MODULUS_BITS && modulus[modulus.length - 1] % 2 === 1;
}
