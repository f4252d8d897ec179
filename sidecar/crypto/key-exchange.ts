/**
 * The key exchanges of wire.md section 2: PK_C of INIT1 and the key material of INIT2, whole fields both.
 * What a peer sent is validated here and never throws.
 */
import { concat } from '../wire/bytes.ts';
import { decodeKeyMaterial, encodeKeyMaterial, NONCE_BYTES } from '../wire/init.ts';
import { type Group, p256, p521, x25519 } from './dh.ts';
import { CIPHERTEXT_BYTES, ENCAPSULATION_KEY_BYTES, type Kem, mlKem768 } from './mlkem.ts';
import type { Random } from './random.ts';
import { type RsaKeys, rsaKeys, rsaOaep } from './rsa.ts';

export { type Random, systemRandom } from './random.ts';

export interface KeyExchange {
  /** The 3-byte algorithm specifier of PKCONF. */
  readonly id: number;
  readonly name: string;
  /** Bytes of PK_C; for RSA, of the one that `generate` makes. */
  readonly publicKeyBytes: number;
  /** Bytes of the key material in INIT2. */
  readonly keyMaterialBytes: number;
  /**
   * Where making a key would keep everything waiting: whether there is one at hand; if not, one is begun in the
   * background.
   */
  prepare?(): boolean;
  /** C's part. */
  generate(random: Random): Offer;
  /** S's part: the key material for INIT2 and the PMS, or `invalid` where PK_C must not be used. */
  respond(publicKey: Uint8Array, random: Random): Response | 'invalid';
}

/** C's ephemeral key, for one handshake. */
export interface Offer {
  readonly publicKey: Uint8Array;
  /** The PMS, or `invalid` where the key material is malformed or must not be used. */
  complete(keyMaterial: Uint8Array): Uint8Array | 'invalid';
  /** Lets go of the private key. A later `complete` throws. */
  destroy(): void;
}

export interface Response {
  readonly keyMaterial: Uint8Array;
  readonly pms: Uint8Array;
}

/** len(N_S), N_S. */
const NONCE_FIELD_BYTES = 1 + NONCE_BYTES;

/** Key material len(N_S) | N_S | PK_S. S draws N_S, then its private key. */
function ecdhe(id: number, name: string, group: Group): KeyExchange {
  return {
    id,
    name,
    publicKeyBytes: group.shareBytes,
    keyMaterialBytes: NONCE_FIELD_BYTES + group.shareBytes,
    generate(random) {
      const pair = group.generate(random);
      return {
        publicKey: pair.share,
        complete(keyMaterial) {
          const decoded = decodeKeyMaterial(keyMaterial);
          return decoded === 'malformed' ? 'invalid' : pair.agree(decoded.rest);
        },
        destroy: () => pair.destroy(),
      };
    },
    respond(publicKey, random) {
      const nonce = random(NONCE_BYTES);
      const pair = group.generate(random);
      const pms = pair.agree(publicKey);
      pair.destroy();
      if (pms === 'invalid') return 'invalid';
      return { keyMaterial: encodeKeyMaterial(nonce, pair.share), pms };
    },
  };
}

/**
 * ML-KEM-768 beside X25519; the ML-KEM part comes first everywhere. C draws the ML-KEM seed (64), then its X25519
 * scalar; S draws N_S, the ML-KEM message (32; OpenSSL by itself), its X25519 scalar.
 */
function hybrid({ x25519, mlKem768 }: Generators): KeyExchange {
  const publicKeyBytes = ENCAPSULATION_KEY_BYTES + x25519.shareBytes;
  return {
    id: 0x210,
    name: 'X25519MLKEM768',
    publicKeyBytes,
    keyMaterialBytes: NONCE_FIELD_BYTES + CIPHERTEXT_BYTES + x25519.shareBytes,
    generate(random) {
      const kem = mlKem768.generate(random);
      const pair = x25519.generate(random);
      return {
        publicKey: concat([kem.encapsulationKey, pair.share]),
        complete(keyMaterial) {
          const decoded = decodeKeyMaterial(keyMaterial);
          if (decoded === 'malformed') return 'invalid';
          const { rest } = decoded;
          // Each part checks its own length.
          return joined(
            kem.decapsulate(rest.subarray(0, CIPHERTEXT_BYTES)),
            pair.agree(rest.subarray(CIPHERTEXT_BYTES)),
          );
        },
        destroy() {
          kem.destroy();
          pair.destroy();
        },
      };
    },
    respond(publicKey, random) {
      if (publicKey.length !== publicKeyBytes) return 'invalid';
      const nonce = random(NONCE_BYTES);
      const encapsulation = mlKem768.encapsulate(publicKey.subarray(0, ENCAPSULATION_KEY_BYTES), random);
      if (encapsulation === 'invalid') return 'invalid';
      const pair = x25519.generate(random);
      const pms = joined(encapsulation.sharedKey, pair.agree(publicKey.subarray(ENCAPSULATION_KEY_BYTES)));
      pair.destroy();
      if (pms === 'invalid') return 'invalid';
      return {
        keyMaterial: encodeKeyMaterial(nonce, concat([encapsulation.ciphertext, pair.share])),
        pms,
      };
    },
  };
}

/** Where the ephemeral keys of the usual exchanges come from. */
export interface Generators {
  readonly x25519: Group;
  readonly mlKem768: Kem;
  readonly rsa: RsaKeys;
}

/** Every exchange by its id. */
export function makeKeyExchanges(generators: Generators): ReadonlyMap<number, KeyExchange> {
  return new Map(
    [
      hybrid(generators),
      ecdhe(0x202, 'X25519', generators.x25519),
      ecdhe(0x200, 'P-256', p256),
      ecdhe(0x201, 'P-521', p521),
      rsaOaep(generators.rsa),
    ].map((exchange) => [exchange.id, exchange]),
  );
}

/** Every exchange by its id; each key is made when it is needed. */
export const keyExchanges: ReadonlyMap<number, KeyExchange> = makeKeyExchanges({
  x25519,
  mlKem768,
  rsa: rsaKeys,
});

/** Both secrets in one array, the originals erased. */
function joined(first: Uint8Array | 'invalid', second: Uint8Array | 'invalid'): Uint8Array | 'invalid' {
  const both = first === 'invalid' || second === 'invalid' ? 'invalid' : concat([first, second]);
  if (first !== 'invalid') first.fill(0);
  if (second !== 'invalid') second.fill(0);
  return both;
}
