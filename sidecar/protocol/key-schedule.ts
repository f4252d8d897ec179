/**
 * From a key exchange to the keys of a connection: wire.md sections 3 ("Key schedule") and 7. Pure; the
 * caller erases what it gets.
 */
import { createHash } from 'node:crypto';
import { cprf, hkdfExtract } from '../crypto/kdf.ts';
import { concat } from '../wire/bytes.ts';

/** The CPRF tags. Those of k_enc, k_mac and k_ack (6 to 8) are in `crypto/asm.ts`. */
const TAG_NEXT_SECRET = 0x01;
const TAG_SESSION_ID = 0x02;
const TAG_MASTER = 0x03;
const TAG_CLIENT_TO_SERVER = 0x04;
const TAG_SERVER_TO_CLIENT = 0x05;
const TAG_CONFIRM = 0x09;

const SECRET_BYTES = 32;
export const CONFIRM_BYTES = 16;
const KEY_ID_BYTES = 8;
const KEY_ID_LABEL = 'tcpcrypt key id';

/** The bodies of the CRYPT options of a connection's SYN and SYN-ACK, concatenated, without ExID. */
export interface SynExchange {
  readonly synBody: Uint8Array;
  readonly synAckBody: Uint8Array;
}

export interface SessionInputs extends SynExchange {
  readonly init1: Uint8Array;
  readonly init2: Uint8Array;
  readonly pms: Uint8Array;
  /** The trust-domain key that both ends hold. */
  readonly psk?: Uint8Array;
  readonly nonceC: Uint8Array;
  /** Where in `init2` the 16 bytes of confirm are; they count as zeros. */
  readonly confirmOffset?: number;
}

/** The pseudo-random key of a full handshake, PRK = ss[0]. */
export function sessionSecret(inputs: SessionInputs): Uint8Array {
  const init2 = Uint8Array.from(inputs.init2);
  if (inputs.confirmOffset !== undefined) {
    init2.fill(0, inputs.confirmOffset, inputs.confirmOffset + CONFIRM_BYTES);
  }
  const ikm = concat([
    ...synExchangeBytes(inputs),
    inputs.init1,
    init2,
    inputs.pms,
    inputs.psk ?? new Uint8Array(0),
  ]);
  const prk = hkdfExtract(inputs.nonceC, ikm);
  erase(ikm);
  return prk;
}

/** ss[i+1] of ss[i]. */
export function nextSecret(ss: Uint8Array): Uint8Array {
  return cprf(ss, TAG_NEXT_SECRET, SECRET_BYTES);
}

/** SID[i] of ss[i], 32 bytes, of which NEXTK1 shows the first 9. */
export function sessionId(ss: Uint8Array): Uint8Array {
  return cprf(ss, TAG_SESSION_ID, SECRET_BYTES);
}

/** mk[0] of ss[i]. A resumed connection (i > 0) gives its SYN exchange, which no key has bound yet. */
export function masterKey(ss: Uint8Array, resumed?: SynExchange): Uint8Array {
  if (resumed === undefined) return cprf(ss, TAG_MASTER, SECRET_BYTES);
  const bound = hkdfExtract(ss, concat(synExchangeBytes(resumed)));
  const master = cprf(bound, TAG_MASTER, SECRET_BYTES);
  erase(bound);
  return master;
}

/** mk[j+1] of mk[j]. */
export function nextMasterKey(mk: Uint8Array): Uint8Array {
  return cprf(mk, TAG_MASTER, SECRET_BYTES);
}

/** k_cs and k_sc of mk[j], 32 bytes each. C is the session's first active opener. */
export function directionKeys(mk: Uint8Array): { cs: Uint8Array; sc: Uint8Array } {
  return {
    cs: cprf(mk, TAG_CLIENT_TO_SERVER, SECRET_BYTES),
    sc: cprf(mk, TAG_SERVER_TO_CLIENT, SECRET_BYTES),
  };
}

/** `confirm` of wire.md section 7, 16 bytes. */
export function confirmation(prk: Uint8Array): Uint8Array {
  return cprf(prk, TAG_CONFIRM, SECRET_BYTES).subarray(0, CONFIRM_BYTES);
}

/** The 8 bytes by which a trust-domain key is called on the wire. */
export function trustKeyId(key: Uint8Array): Uint8Array {
  return new Uint8Array(
    createHash('sha256').update(KEY_ID_LABEL).update(key).digest().subarray(0, KEY_ID_BYTES),
  );
}

/** Overwrites secrets with zeros. */
export function erase(...secrets: readonly Uint8Array[]): void {
  for (const secret of secrets) secret.fill(0);
}

/** a | body of the SYN | b | body of the SYN-ACK, a and b one byte each. */
function synExchangeBytes({ synBody, synAckBody }: SynExchange): Uint8Array[] {
  return [Uint8Array.of(synBody.length), synBody, Uint8Array.of(synAckBody.length), synAckBody];
}
