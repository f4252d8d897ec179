/**
 * The session cache (wire.md, section 3 "Session cache"): chains of session secrets that resume an
 * earlier connection without a key exchange. Pure; imports only the key schedule.
 *
 * Invariants: an index of a chain is served at most once, in whichever direction, for two connections
 * under one ss[i] would share a keystream; a secret that leaves the cache leaves zeros behind; work and
 * memory for each chain are constant. Secrets stay in memory and are never checkpointed.
 *
 * A chain holds a ring of secrets around `newest`, the highest index served:
 *
 *     newest-7 … newest      served, or skipped: still acceptable, for parallel opens come in any order
 *     newest+1 … newest+8    to come; only the SIDs of these and of the skipped ones can be looked up
 */
import { slabs } from '../wire/bytes.ts';
import { erase, nextSecret, sessionId } from './key-schedule.ts';

/** What a resumed connection inherits from the first one of its chain. */
export interface SessionAttributes {
  /** Our role in the first connection; the resumed one keeps it, whichever side opens. */
  readonly role: 'C' | 'S';
  readonly keyExchange: number;
  readonly suite: number;
  readonly authenticated: boolean;
  /** Hex of the trust-domain key's id (wire.md, section 7). */
  readonly keyId: string | undefined;
  readonly peerAppSupport: boolean;
}

export interface CachedSession {
  /** Names the chain in `drop`. */
  readonly chain: object;
  readonly index: number;
  /** ss[index], 32 bytes. The caller owns it and erases it. */
  readonly secret: Uint8Array;
  /** SID[index], 32 bytes. */
  readonly sid: Uint8Array;
  readonly attributes: SessionAttributes;
}

export interface SessionCacheLimits {
  readonly enabled: boolean;
  /** Of chains. */
  readonly maxEntries: number;
  /** Since the full handshake: resuming does not renew it. */
  readonly lifetimeMs: number;
}

/** How far ahead of the newest served index a SID may be. */
export const COMING = 8;
const RING = 2 * COMING;
const SECRET_BYTES = 32;
const SID_BYTES = 32;
/** NEXTK1 carries this much of SID[i]. */
const SID_PREFIX_BYTES = 9;

/** Of chains that we opened: behind a Service's address stand many pods. */
export const CHAINS_PER_DESTINATION = 4;
/** Of chains that the peer opened: behind one source address (a NAT, a node) may stand many clients. */
export const CHAINS_PER_SOURCE = 32;

interface Chain {
  readonly peer: string;
  readonly attributes: SessionAttributes;
  readonly addedAt: number;
  /** ss[j] in slot j mod RING; zeros where it was served or not derived. */
  readonly secrets: Uint8Array;
  /** SID[j] beside ss[j]. */
  readonly sids: Uint8Array;
  /** The lookup key of SID[j] in slot j mod RING; undefined where there is no secret. */
  readonly keys: (string | undefined)[];
  /** The highest index derived: COMING more than the newest one served. */
  derived: number;
}

const secretBytes = slabs(4096);
/** Of SID_PREFIX_BYTES bytes; written out, it makes the string and nothing else. */
const prefixKey = (sid: Uint8Array): string =>
  String.fromCharCode(sid[0]!, sid[1]!, sid[2]!, sid[3]!, sid[4]!, sid[5]!, sid[6]!, sid[7]!, sid[8]!);

export class SessionCache {
  private limits: SessionCacheLimits;
  /** Least recently used first. */
  private readonly chains = new Set<Chain>();
  /** Oldest first. */
  private readonly byPeer = new Map<string, Chain[]>();
  /** From the first 9 bytes of each SID that may be accepted to its chain: an unknown SID costs one lookup. */
  private readonly bySid = new Map<string, Chain>();

  constructor(limits: SessionCacheLimits) {
    this.limits = limits;
  }

  /** Puts new limits into force: chains over `maxEntries`, or all if not enabled, are erased. */
  setLimits(limits: SessionCacheLimits): void {
    this.limits = limits;
    this.evict();
  }

  /**
   * Begins a chain after the connection whose secret is `ss` (= ss[index]): caches what follows it,
   * keeps nothing of `ss` itself. Call it once for a full handshake; a resumed connection's chain is
   * there already. Returns the handle for `drop`, also when the cache is off.
   */
  add(peer: string, ss: Uint8Array, index: number, attributes: SessionAttributes, now: number): object {
    const chain: Chain = {
      peer,
      attributes,
      addedAt: now,
      secrets: new Uint8Array(RING * SECRET_BYTES),
      sids: new Uint8Array(RING * SID_BYTES),
      keys: new Array<string | undefined>(RING).fill(undefined),
      derived: index,
    };
    if (!this.limits.enabled || this.limits.maxEntries < 1) return chain;

    const siblings = this.byPeer.get(peer) ?? [];
    const limit = attributes.role === 'C' ? CHAINS_PER_DESTINATION : CHAINS_PER_SOURCE;
    const sameRole = siblings.filter((other) => other.attributes.role === attributes.role);
    if (sameRole.length >= limit) this.remove(sameRole[0]);

    this.chains.add(chain);
    const list = this.byPeer.get(peer);
    if (list === undefined) this.byPeer.set(peer, [chain]);
    else list.push(chain);
    this.put(chain, index + 1, nextSecret(ss));
    this.derive(chain, index + COMING);
    this.evict();
    return chain;
  }

  /** Active opener: the newest chain for that address, its lowest unused index, which is used from now on. */
  take(peer: string, now: number): CachedSession | undefined {
    for (;;) {
      const chain = this.byPeer.get(peer)?.at(-1);
      if (chain === undefined) return undefined;
      if (this.expired(chain, now)) {
        this.remove(chain);
        continue;
      }
      let index = Math.max(0, chain.derived - RING + 1);
      while (chain.keys[index % RING] === undefined) index++;
      return this.serve(chain, index);
    }
  }

  /** Passive opener: by the bytes of NEXTK1. Undefined: not known, or served already; answer PKCONF. */
  accept(sid9: Uint8Array, now: number): CachedSession | undefined {
    if (sid9.length !== SID_PREFIX_BYTES) return undefined;
    const key = prefixKey(sid9);
    const chain = this.bySid.get(key);
    if (chain === undefined) return undefined;
    if (this.expired(chain, now)) {
      this.remove(chain);
      return undefined;
    }
    const slot = chain.keys.indexOf(key);
    let index = chain.derived - (chain.derived % RING) + slot;
    if (index > chain.derived) index -= RING;
    return this.serve(chain, index);
  }

  /** Forgets a chain, if it is still there: its SYN was not answered, or nothing ever verified. */
  drop(chain: object): void {
    if (this.chains.has(chain as Chain)) this.remove(chain as Chain);
  }

  /** Forgets all chains that a withdrawn trust-domain key authenticated. */
  withdraw(keyId: string): void {
    for (const chain of this.chains) if (chain.attributes.keyId === keyId) this.remove(chain);
  }

  flush(): void {
    for (const chain of this.chains) this.remove(chain);
  }

  /** Erases what has outlived the lifetime; call it now and then. */
  sweep(now: number): void {
    for (const chain of this.chains) if (this.expired(chain, now)) this.remove(chain);
  }

  /** Number of chains. */
  get size(): number {
    return this.chains.size;
  }

  private expired(chain: Chain, now: number): boolean {
    return now - chain.addedAt >= this.limits.lifetimeMs;
  }

  private serve(chain: Chain, index: number): CachedSession {
    this.derive(chain, index + COMING);
    const secret = secretBytes(SECRET_BYTES);
    secret.set(slotOf(chain, index));
    const sid = sidOf(chain, index).slice();
    this.clear(chain, index);
    this.chains.delete(chain);
    this.chains.add(chain);
    return { chain, index, secret, sid, attributes: chain.attributes };
  }

  /** Derives up to index `last`; what that pushes out of the ring is lost. */
  private derive(chain: Chain, last: number): void {
    while (chain.derived < last) {
      this.put(chain, chain.derived + 1, nextSecret(slotOf(chain, chain.derived)));
    }
  }

  /** Takes ss[index] in, where index = derived + 1, and erases the array that brought it. */
  private put(chain: Chain, index: number, secret: Uint8Array): void {
    this.clear(chain, index);
    slotOf(chain, index).set(secret);
    const sid = sessionId(secret);
    sidOf(chain, index).set(sid);
    const key = prefixKey(sid);
    chain.keys[index % RING] = key;
    chain.derived = index;
    this.bySid.set(key, chain);
    erase(secret);
  }

  private clear(chain: Chain, index: number): void {
    erase(slotOf(chain, index));
    this.forget(chain, chain.keys[index % RING]);
    chain.keys[index % RING] = undefined;
  }

  /** A pod that connects to itself has both ends' chains here, with the same SIDs: take out only our own. */
  private forget(chain: Chain, key: string | undefined): void {
    if (key !== undefined && this.bySid.get(key) === chain) this.bySid.delete(key);
  }

  private remove(chain: Chain): void {
    erase(chain.secrets);
    for (const key of chain.keys) this.forget(chain, key);
    chain.keys.fill(undefined);
    this.chains.delete(chain);
    const siblings = this.byPeer.get(chain.peer);
    if (siblings === undefined) return;
    const at = siblings.indexOf(chain);
    if (at >= 0) siblings.splice(at, 1);
    if (siblings.length === 0) this.byPeer.delete(chain.peer);
  }

  private evict(): void {
    const max = this.limits.enabled ? Math.max(0, this.limits.maxEntries) : 0;
    for (const chain of this.chains) {
      if (this.chains.size <= max) return;
      this.remove(chain);
    }
  }
}

const slotOf = (chain: Chain, index: number): Uint8Array => {
  const at = (index % RING) * SECRET_BYTES;
  return chain.secrets.subarray(at, at + SECRET_BYTES);
};

const sidOf = (chain: Chain, index: number): Uint8Array => {
  const at = (index % RING) * SID_BYTES;
  return chain.sids.subarray(at, at + SID_BYTES);
};
