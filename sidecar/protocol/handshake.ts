/**
 * The key exchange: INIT1 and INIT2 made, checked and turned into a session. wire.md sections 2, 3 and 7.
 * Knows nothing of segments. Pure: randomness is handed in.
 */
import { equalTags, suites } from '../crypto/asm.ts';
import type { KeyExchange, Offer, Random } from '../crypto/key-exchange.ts';
import {
  decodeInit1,
  decodeInit2,
  encodeInit1,
  encodeInit2,
  type Init1,
  type Tlv,
  tlvValueOffset,
} from '../wire/init.ts';
import { confirmation, erase, sessionSecret, trustKeyId } from './key-schedule.ts';
import type { Role, TrustKey } from './types.ts';

/** TLV 1: key ids in INIT1, the chosen key id and `confirm` in INIT2 (wire.md section 7). */
const TLV_TRUST = 1;
const KEY_ID_BYTES = 8;
const CONFIRM_BYTES = 16;
const MAX_KEY_IDS = 8;
/** INIT1 and INIT2 without suites, key material and TLVs. */
const INIT1_FIXED_BYTES = 12 + 32 + 4;
const INIT2_FIXED_BYTES = 12;

export interface Algorithms {
  readonly keyExchanges: readonly number[];
  readonly suites: readonly number[];
}

/** What this end can do, and may. */
export interface Means {
  /** By id. Which of them may be used `algorithms` says. */
  readonly exchanges: ReadonlyMap<number, KeyExchange>;
  readonly algorithms: Algorithms;
  readonly trustKeys: readonly TrustKey[];
  readonly random: Random;
}

export interface Session {
  /** ss[i]; the holder erases it. */
  readonly secret: Uint8Array;
  readonly role: Role;
  readonly keyExchange: number;
  readonly suite: number;
  readonly authenticated: boolean;
  /** Hex of the trust-domain key's id, when authenticated. */
  readonly keyId: string | undefined;
}

export interface SynBodies {
  readonly synBody: Uint8Array;
  readonly synAckBody: Uint8Array;
}

/** C's half-made exchange, from INIT1 to INIT2. */
export interface Initiation {
  readonly bytes: Uint8Array;
  readonly nonce: Uint8Array;
  readonly keyExchange: KeyExchange;
  readonly offer: Offer;
  readonly suites: readonly number[];
  readonly trustKeys: readonly TrustKey[];
}

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

function offeredTrustKeys(keys: readonly TrustKey[]): readonly TrustKey[] {
  return keys.filter((each) => each.offered).slice(0, MAX_KEY_IDS);
}

const trustTlvBytes = (keys: readonly TrustKey[]) => (keys.length ? 3 + KEY_ID_BYTES * keys.length : 0);

/**
 * The exchange that C takes: the first of the peer's list that policy allows and whose INIT1 and INIT2 both
 * fit `maxPayloadBytes`, and for which there is a key: no connection waits for one.
 */
export function chooseKeyExchange(
  { algorithms, exchanges, trustKeys }: Means,
  offered: readonly number[],
  maxPayloadBytes: number,
): KeyExchange | undefined {
  const keys = offeredTrustKeys(trustKeys);
  for (const id of offered) {
    const exchange = algorithms.keyExchanges.includes(id) ? exchanges.get(id) : undefined;
    if (!exchange || exchange.prepare?.() === false) continue;
    const init1 =
      INIT1_FIXED_BYTES + 4 * algorithms.suites.length + exchange.publicKeyBytes + trustTlvBytes(keys);
    const init2 =
      INIT2_FIXED_BYTES + exchange.keyMaterialBytes + (keys.length ? 3 + KEY_ID_BYTES + CONFIRM_BYTES : 0);
    if (Math.max(init1, init2) <= maxPayloadBytes) return exchange;
  }
  return undefined;
}

export function initiate({ algorithms, trustKeys, random }: Means, exchange: KeyExchange): Initiation {
  const keys = offeredTrustKeys(trustKeys);
  const tlvs: Tlv[] = [];
  if (keys.length)
    tlvs.push({ type: TLV_TRUST, value: Buffer.concat(keys.map((each) => trustKeyId(each.key))) });
  const nonce = random(32);
  const offer = exchange.generate(random);
  const init1: Init1 = {
    suites: [...algorithms.suites],
    nonce,
    keyExchange: exchange.id,
    publicKey: offer.publicKey,
    tlvs,
  };
  const bytes = encodeInit1(init1);
  return { bytes, nonce, keyExchange: exchange, offer, suites: algorithms.suites, trustKeys: keys };
}

/** Why S does not accept an INIT1. `unauthenticated`: policy requires a key that the peer does not hold. */
export type Refusal = 'malformed' | 'no_common_algorithm' | 'unauthenticated';

/** What S asks of an INIT1. */
export interface Demands {
  /** What our PKCONF said. */
  readonly offered: readonly number[];
  readonly authenticationRequired: boolean;
  readonly isOwnNonce: (nonce: Uint8Array) => boolean;
}

/** S: checks INIT1 and makes INIT2 and the session. */
export function answer(
  { algorithms, exchanges, trustKeys, random }: Means,
  init1Bytes: Uint8Array,
  bodies: SynBodies,
  { offered, authenticationRequired, isOwnNonce }: Demands,
): { init2: Uint8Array; session: Session } | Refusal {
  const init1 = decodeInit1(init1Bytes);
  if (init1 === 'malformed' || isOwnNonce(init1.nonce)) return 'malformed';
  const suite = algorithms.suites.find((id) => init1.suites.includes(id) && suites.has(id));
  const exchange = offered.includes(init1.keyExchange) ? exchanges.get(init1.keyExchange) : undefined;
  if (suite === undefined || !exchange) return 'no_common_algorithm';
  const trustKey = commonTrustKey(init1.tlvs, trustKeys);
  if (!trustKey && authenticationRequired) return 'unauthenticated';
  const response = exchange.respond(init1.publicKey, random);
  if (response === 'invalid') return 'malformed';

  const tlvs: Tlv[] = [];
  if (trustKey) {
    const value = new Uint8Array(KEY_ID_BYTES + CONFIRM_BYTES);
    value.set(trustKeyId(trustKey.key));
    tlvs.push({ type: TLV_TRUST, value });
  }
  const init2 = encodeInit2({ suite, keyMaterial: response.keyMaterial, tlvs });
  const valueOffset = trustKey ? tlvValueOffset(init2, 2, TLV_TRUST) : undefined;
  const secret = sessionSecret({
    ...bodies,
    init1: init1Bytes,
    init2,
    pms: response.pms,
    nonceC: init1.nonce,
    ...(trustKey && { psk: trustKey.key, confirmOffset: valueOffset! + KEY_ID_BYTES }),
  });
  erase(response.pms);
  if (trustKey) init2.set(confirmation(secret), valueOffset! + KEY_ID_BYTES);
  const keyId = trustKey && hex(trustKeyId(trustKey.key));
  return {
    init2,
    session: { secret, role: 'S', keyExchange: exchange.id, suite, authenticated: !!trustKey, keyId },
  };
}

/** The first of C's key ids, newest first, that S holds too. */
function commonTrustKey(tlvs: readonly Tlv[], trustKeys: readonly TrustKey[]): TrustKey | undefined {
  const value = tlvs.find((tlv) => tlv.type === TLV_TRUST)?.value;
  if (!value || trustKeys.length === 0) return undefined;
  const count = Math.min(MAX_KEY_IDS, Math.floor(value.length / KEY_ID_BYTES));
  for (let i = 0; i < count; i++) {
    const id = value.subarray(i * KEY_ID_BYTES, (i + 1) * KEY_ID_BYTES);
    const found = trustKeys.find((each) => equalTags(trustKeyId(each.key), id));
    if (found) return found;
  }
  return undefined;
}

/**
 * C: checks INIT2 and makes the session. `malformed`: the message counts for nothing and is dropped;
 * `unauthentic`: the confirmation is wrong, which means reset, never plain (wire.md section 7).
 */
export function complete(
  initiation: Initiation,
  init2Bytes: Uint8Array,
  bodies: SynBodies,
): Session | 'malformed' | 'unauthentic' {
  const init2 = decodeInit2(init2Bytes);
  if (init2 === 'malformed' || !initiation.suites.includes(init2.suite)) return 'malformed';
  const value = init2.tlvs.find((tlv) => tlv.type === TLV_TRUST)?.value;
  let trustKey: TrustKey | undefined;
  let confirmOffset = 0;
  if (value) {
    if (value.length !== KEY_ID_BYTES + CONFIRM_BYTES) return 'malformed';
    const id = value.subarray(0, KEY_ID_BYTES);
    trustKey = initiation.trustKeys.find((each) => equalTags(trustKeyId(each.key), id));
    if (!trustKey) return 'malformed';
    confirmOffset = tlvValueOffset(init2Bytes, 2, TLV_TRUST)! + KEY_ID_BYTES;
  }
  const pms = initiation.offer.complete(init2.keyMaterial);
  if (pms === 'invalid') return 'malformed';
  const secret = sessionSecret({
    ...bodies,
    init1: initiation.bytes,
    init2: init2Bytes,
    pms,
    nonceC: initiation.nonce,
    ...(trustKey && { psk: trustKey.key, confirmOffset }),
  });
  erase(pms);
  if (trustKey && !equalTags(confirmation(secret), value!.subarray(KEY_ID_BYTES))) {
    erase(secret);
    return 'unauthentic';
  }
  return {
    secret,
    role: 'C',
    keyExchange: initiation.keyExchange.id,
    suite: init2.suite,
    authenticated: !!trustKey,
    keyId: trustKey && hex(trustKeyId(trustKey.key)),
  };
}
