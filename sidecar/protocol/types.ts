/** Words that the protocol shares with the layers above. */

/** C supplies the public key, S answers it; the active opener of a session's first connection is C. */
export type Role = 'C' | 'S';

/** A trust-domain key (wire.md section 7). `offered` false: accepted, but not named in our INIT1. */
export interface TrustKey {
  /** 32 bytes. */
  readonly key: Uint8Array;
  readonly offered: boolean;
}
