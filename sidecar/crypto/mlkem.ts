/** ML-KEM-768 (FIPS 203). */
import {
  createPrivateKey,
  createPublicKey,
  decapsulate,
  encapsulate,
  generateKeyPairSync,
  type KeyObject,
} from 'node:crypto';
import { ml_kem768 } from '@noble/post-quantum/ml-kem.js';
import { plain } from './plain.ts';
import { type Random, systemRandom } from './random.ts';

export const ENCAPSULATION_KEY_BYTES = 1184;
export const CIPHERTEXT_BYTES = 1088;
const SEED_BYTES = 64;
const MESSAGE_BYTES = 32;

export interface DecapsulationKey {
  readonly encapsulationKey: Uint8Array;
  /** The shared secret (a pseudo-random one for a wrong ciphertext, FIPS 203 algorithm 18). */
  decapsulate(ciphertext: Uint8Array): Uint8Array | 'invalid';
  /** Lets go of the key; OpenSSL cleanses it as it frees it. */
  destroy(): void;
}

/**
 * Makes a key pair. From the seed d | z (FIPS 203 algorithm 16) it takes OpenSSL twice as long as from randomness of
 * its own, so for the system's it draws itself.
 */
export function generateKey(random: Random): DecapsulationKey {
  let key: KeyObject | undefined =
    random === systemRandom ? generateKeyPairSync('ml-kem-768').privateKey : fromSeed(random(SEED_BYTES));
  return {
    encapsulationKey: plain(createPublicKey(key).export({ format: 'raw-public' })),
    decapsulate(ciphertext) {
      if (key === undefined) throw new Error('a decapsulation key was used after it was destroyed');
      if (ciphertext.length !== CIPHERTEXT_BYTES) return 'invalid';
      return plain(decapsulate(key, ciphertext));
    },
    destroy() {
      key = undefined;
    },
  };
}

/** Erases the seed. */
function fromSeed(seed: Uint8Array): KeyObject {
  const key = createPrivateKey({ key: seed, format: 'raw-seed', asymmetricKeyType: 'ml-kem-768' });
  seed.fill(0);
  return key;
}

export interface Encapsulation {
  readonly ciphertext: Uint8Array;
  readonly sharedKey: Uint8Array;
}

/**
 * A secret for whoever holds the key to `encapsulationKey`, or `invalid` where that fails the type and
 * modulus checks of FIPS 203 section 7.2. OpenSSL cannot be given the message m, so for any randomness but the
 * system's noble does the work; it is six times slower and not constant-time, which a simulation bears.
 */
export function encapsulateTo(encapsulationKey: Uint8Array, random: Random): Encapsulation | 'invalid' {
  if (encapsulationKey.length !== ENCAPSULATION_KEY_BYTES) return 'invalid';
  let publicKey: KeyObject;
  try {
    publicKey = createPublicKey({
      key: encapsulationKey,
      format: 'raw-public',
      asymmetricKeyType: 'ml-kem-768',
    });
  } catch {
    return 'invalid'; // a coefficient that is not below q
  }
  if (random === systemRandom) {
    const { ciphertext, sharedKey } = encapsulate(publicKey);
    return { ciphertext: plain(ciphertext), sharedKey: plain(sharedKey) };
  }
  const message = random(MESSAGE_BYTES);
  const { cipherText, sharedSecret } = ml_kem768.encapsulate(encapsulationKey, message);
  message.fill(0);
  return { ciphertext: cipherText, sharedKey: sharedSecret };
}
