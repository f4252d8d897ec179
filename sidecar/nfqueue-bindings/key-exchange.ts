/**
 * X25519 and ML-KEM-768 by the addon, with the same bytes as crypto/dh.ts and crypto/mlkem.ts, which stay as reference
 * and for whoever runs without the addon. No KeyObject is made, and a private key is erased when it is destroyed, not
 * when the garbage collector comes.
 */
import type { Group, KeyPair } from '../crypto/dh.ts';
import { CIPHERTEXT_BYTES, ENCAPSULATION_KEY_BYTES, type Kem } from '../crypto/mlkem.ts';
import { coded, type NativePrivateKey, native } from './native.ts';

const SECRET_BYTES = 32;
const SHARE_BYTES = 32;
const SEED_BYTES = 64;

/** As `x25519` of crypto/dh.ts. */
export const nativeX25519: Group = {
  shareBytes: SHARE_BYTES,
  generate(random): KeyPair {
    const share = new Uint8Array(SHARE_BYTES);
    const key = privateKey(false, random(SHARE_BYTES), share);
    return {
      share,
      agree: (peerShare) => agree(key, peerShare, SHARE_BYTES),
      destroy: () => key.destroy(),
    };
  },
};

/** As `mlKem768` of crypto/mlkem.ts. */
export const nativeMlKem768: Kem = {
  generate(random) {
    const encapsulationKey = new Uint8Array(ENCAPSULATION_KEY_BYTES);
    const key = privateKey(true, random(SEED_BYTES), encapsulationKey);
    return {
      encapsulationKey,
      decapsulate: (ciphertext) => agree(key, ciphertext, CIPHERTEXT_BYTES),
      destroy: () => key.destroy(),
    };
  },
  encapsulate(encapsulationKey) {
    if (encapsulationKey.length !== ENCAPSULATION_KEY_BYTES) return 'invalid';
    const ciphertext = new Uint8Array(CIPHERTEXT_BYTES);
    const sharedKey = new Uint8Array(SECRET_BYTES);
    const taken = coded(() => native.encapsulate(encapsulationKey, ciphertext, sharedKey));
    return taken ? { ciphertext, sharedKey } : 'invalid';
  },
};

/** Erases `random`. */
function privateKey(isMlKem768: boolean, random: Uint8Array, publicKey: Uint8Array): NativePrivateKey {
  try {
    return coded(() => new native.PrivateKey(isMlKem768, random, publicKey));
  } finally {
    random.fill(0);
  }
}

function agree(key: NativePrivateKey, peer: Uint8Array, peerBytes: number): Uint8Array | 'invalid' {
  // One that is destroyed says so.
  if (peer.length !== peerBytes) return 'invalid';
  const secret = new Uint8Array(SECRET_BYTES);
  return coded(() => key.agree(peer, secret)) ? secret : 'invalid';
}
