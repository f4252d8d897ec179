/** ML-KEM-768 (FIPS 203). */
import {
  createPrivateKey,
  createPublicKey,
  decapsulate,
  generateKeyPairSync,
  type KeyObject,
  encapsulate as opensslEncapsulate,
} from 'node:crypto';
import { plain } from './plain.ts';
import { type Random, systemRandom } from './random.ts';

export const ENCAPSULATION_KEY_BYTES = 1184;
export const CIPHERTEXT_BYTES = 1088;
const SEED_BYTES = 64;

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
function generateKey(random: Random): DecapsulationKey {
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

/** How the hybrid exchange makes and uses ML-KEM keys. */
export interface Kem {
  generate(random: Random): DecapsulationKey;
  /**
   * A secret for whoever holds the key to `encapsulationKey`, or `invalid` where that fails the type and modulus
   * checks of FIPS 203 section 7.2.
   */
  encapsulate(encapsulationKey: Uint8Array, random: Random): Encapsulation | 'invalid';
}

/** By OpenSSL, which draws the message m itself. */
export const mlKem768: Kem = { generate: generateKey, encapsulate };

function encapsulate(encapsulationKey: Uint8Array): Encapsulation | 'invalid' {
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
  const { ciphertext, sharedKey } = opensslEncapsulate(publicKey);
  return { ciphertext: plain(ciphertext), sharedKey: plain(sharedKey) };
}
