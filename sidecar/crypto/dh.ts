/** Diffie-Hellman shares: X25519 (RFC 7748) and the NIST curves (SP 800-56A), on OpenSSL. */
import {
  createECDH,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  type ECDH,
  type KeyObject,
} from 'node:crypto';
import { plain } from './plain.ts';
import type { Random } from './random.ts';

/** A group in which two ends agree on a secret. */
export interface Group {
  readonly shareBytes: number;
  generate(random: Random): KeyPair;
}

/** A private key for one exchange. */
export interface KeyPair {
  readonly share: Uint8Array;
  /** The shared secret, or `invalid` where `peerShare` is no point that may be used. */
  agree(peerShare: Uint8Array): Uint8Array | 'invalid';
  /** Lets go of the private key; OpenSSL cleanses it as it frees it. */
  destroy(): void;
}

export const x25519: Group = {
  shareBytes: 32,
  generate(random) {
    const scalar = random(32);
    let privateKey: KeyObject | undefined = createPrivateKey({
      key: scalar,
      format: 'raw-private',
      asymmetricKeyType: 'x25519',
    });
    scalar.fill(0);
    return {
      share: plain(createPublicKey(privateKey).export({ format: 'raw-public' })),
      agree(peerShare) {
        if (privateKey === undefined) throw new Error('a key pair was used after it was destroyed');
        if (peerShare.length !== 32) return 'invalid';
        try {
          const publicKey = createPublicKey({
            key: peerShare,
            format: 'raw-public',
            asymmetricKeyType: 'x25519',
          });
          // OpenSSL fails where the output is all zeros, as RFC 7748 section 6.1 asks.
          return plain(diffieHellman({ privateKey, publicKey }));
        } catch {
          return 'invalid';
        }
      },
      destroy() {
        privateKey = undefined;
      },
    };
  },
};

export const p256: Group = nistCurve('prime256v1', 32, 0xff);
export const p521: Group = nistCurve('secp521r1', 66, 0x01);

const UNCOMPRESSED = 0x04;
/** The chance that a scalar is out of range is 2^-32 at most: this many in a row is a broken `random`. */
const MAX_SCALARS = 8;

/** `topMask` covers the bits of the group order's first byte. */
function nistCurve(curve: string, fieldBytes: number, topMask: number): Group {
  const shareBytes = 1 + 2 * fieldBytes;
  return {
    shareBytes,
    generate(random) {
      let ecdh: ECDH | undefined = withPrivateKey(curve, fieldBytes, topMask, random);
      return {
        share: plain(ecdh.getPublicKey()),
        agree(peerShare) {
          if (ecdh === undefined) throw new Error('a key pair was used after it was destroyed');
          if (peerShare.length !== shareBytes || peerShare[0] !== UNCOMPRESSED) return 'invalid';
          try {
            return plain(ecdh.computeSecret(peerShare)); // the x coordinate; fails for a point off the curve
          } catch {
            return 'invalid';
          }
        },
        destroy() {
          ecdh = undefined;
        },
      };
    },
  };
}

/** Draws scalars until one is in [1, n-1] (FIPS 186-5 A.2.2, candidate testing). */
function withPrivateKey(curve: string, fieldBytes: number, topMask: number, random: Random): ECDH {
  for (let attempt = 0; attempt < MAX_SCALARS; attempt++) {
    const scalar = random(fieldBytes);
    scalar[0] &= topMask;
    const ecdh = createECDH(curve);
    try {
      ecdh.setPrivateKey(scalar);
      return ecdh;
    } catch {
      // zero, or the group order or more
    } finally {
      scalar.fill(0);
    }
  }
  throw new Error(`no private key for ${curve} in ${MAX_SCALARS} draws: the source of randomness is broken`);
}
