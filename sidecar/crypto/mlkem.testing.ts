/**
 * Key exchanges whose every byte comes from the randomness given, for simulations and vectors. OpenSSL cannot be given
 * ML-KEM's message m, so noble encapsulates here: six times slower, and not constant-time.
 */
import { ml_kem768 } from '@noble/post-quantum/ml-kem.js';
import { x25519 } from './dh.ts';
import { makeKeyExchanges } from './key-exchange.ts';
import { type Encapsulation, type Kem, mlKem768 } from './mlkem.ts';
import type { Random } from './random.ts';
import { rsaKeys } from './rsa.ts';

const MESSAGE_BYTES = 32;

export const derandomizedMlKem768: Kem = {
  generate: mlKem768.generate,
  encapsulate(encapsulationKey: Uint8Array, random: Random): Encapsulation | 'invalid' {
    const message = random(MESSAGE_BYTES);
    try {
      const { cipherText, sharedSecret } = ml_kem768.encapsulate(encapsulationKey, message);
      return { ciphertext: cipherText, sharedKey: sharedSecret };
    } catch {
      return 'invalid';
    } finally {
      message.fill(0);
    }
  },
};

export const derandomizedKeyExchanges = makeKeyExchanges({
  x25519,
  mlKem768: derandomizedMlKem768,
  rsa: rsaKeys,
});
