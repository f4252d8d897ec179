/**
 * What is remembered about remote addresses, in memory and bounded (wire.md, section 4): those where
 * tcpcrypt failed, those that have spoken it lately, and those where the large key exchange failed.
 * Imports only the map. Nothing here decides: the state machine asks and reports, and leaves the
 * negative list alone where policy is Strict or authentication Required.
 */
import { ExpiringMap } from './expiring-map.ts';

/** A destination with which tcpcrypt failed, and until when nothing is offered there. */
export interface Listed {
  /** As `formatAddress` writes it. */
  readonly peer: string;
  readonly untilMs: number;
}

interface Listing {
  readonly untilMs: number;
  readonly durationMs: number;
}

export const MAX_SHARED = 1024;
const MAX_SHARED_MS = 600_000;

export interface NegativeListOptions {
  /** How long the first listing lasts; each later one twice as long. */
  readonly firstMs?: number;
  readonly maxMs?: number;
  readonly maxEntries?: number;
}

/** Destinations that are not offered tcpcrypt for now: 10 minutes, doubling to a day, cleared by any success. */
export class NegativeList {
  private readonly firstMs: number;
  private readonly maxMs: number;
  /** A listing outlives its end by `maxMs`, so that the next one knows what to double. */
  private readonly listings: ExpiringMap<Listing>;
  private readonly synTimeouts: ExpiringMap<true>;

  constructor({ firstMs = 600_000, maxMs = 86_400_000, maxEntries = 4096 }: NegativeListOptions = {}) {
    this.firstMs = firstMs;
    this.maxMs = maxMs;
    this.listings = new ExpiringMap(maxEntries);
    this.synTimeouts = new ExpiringMap(maxEntries);
  }

  /**
   * Lists a destination. While it is listed nothing is offered there, so what fails then was opened
   * before and says nothing new: a burst of parallel connections counts once.
   */
  add(peer: string, now: number): void {
    const last = this.listings.get(peer, now);
    if (last !== undefined && now < last.untilMs) return;
    this.put(peer, last === undefined ? this.firstMs : last.durationMs * 2, now);
  }

  has(peer: string, now: number): boolean {
    const listing = this.listings.get(peer, now);
    return listing !== undefined && now < listing.untilMs;
  }

  /** A connection to it is encrypted: all that was held against it is forgotten. */
  succeed(peer: string): void {
    this.listings.delete(peer);
    this.synTimeouts.delete(peer);
  }

  /** A SYN with CRYPT was not answered and the one without was. The second time lists it and returns true. */
  synTimeout(peer: string, now: number): boolean {
    if (!this.synTimeouts.has(peer, now)) {
      this.synTimeouts.set(peer, true, now + this.maxMs);
      return false;
    }
    this.synTimeouts.delete(peer);
    this.add(peer, now);
    return true;
  }

  /** What is listed now, the oldest first. */
  entries(now: number): Listed[] {
    const out: Listed[] = [];
    for (const [peer, { untilMs }] of this.listings.entries(now)) {
      if (now < untilMs) out.push({ peer, untilMs });
    }
    return out;
  }

  get size(): number {
    return this.listings.size;
  }

  private put(peer: string, durationMs: number, now: number): void {
    const cutMs = Math.min(durationMs, this.maxMs);
    this.store(peer, { untilMs: now + cutMs, durationMs: cutMs });
  }

  private store(peer: string, listing: Listing): void {
    this.listings.set(peer, listing, listing.untilMs + this.maxMs);
  }
}

/**
 * What other sidecars of the node have on their lists, given by the node agent. Somebody else's word: it says nothing of
 * what this end found itself, is never passed on, and ends soon unless it is said again.
 */
export class SharedList {
  private peers = new Map<string, number>();

  /** The whole of it, in place of what was known: 1,024 entries for ten minutes at most. */
  replace(entries: Iterable<Listed>, now: number): void {
    this.peers = new Map();
    for (const { peer, untilMs } of entries) {
      if (this.peers.size >= MAX_SHARED) return;
      if (untilMs > now) this.peers.set(peer, Math.min(untilMs, now + MAX_SHARED_MS));
    }
  }

  has(peer: string, now: number): boolean {
    return now < (this.peers.get(peer) ?? 0);
  }

  get size(): number {
    return this.peers.size;
  }
}

/** Addresses that have spoken tcpcrypt lately: a lost SYN to them is repeated with its options. */
export class KnownPeers {
  private readonly lifetimeMs: number;
  private readonly peers: ExpiringMap<true>;

  constructor({ lifetimeMs = 3_600_000, maxEntries = 16_384 } = {}) {
    this.lifetimeMs = lifetimeMs;
    this.peers = new ExpiringMap(maxEntries);
  }

  note(peer: string, now: number): void {
    this.peers.set(peer, true, now + this.lifetimeMs);
  }

  has(peer: string, now: number): boolean {
    return this.peers.has(peer, now);
  }

  get size(): number {
    return this.peers.size;
  }
}

/** Destinations where INIT1 with the large key exchange (0x000210) got no answer: try the next one there. */
export class ExchangeHints {
  private readonly lifetimeMs: number;
  private readonly peers: ExpiringMap<true>;

  constructor({ lifetimeMs = 3_600_000, maxEntries = 4096 } = {}) {
    this.lifetimeMs = lifetimeMs;
    this.peers = new ExpiringMap(maxEntries);
  }

  avoid(peer: string, now: number): void {
    this.peers.set(peer, true, now + this.lifetimeMs);
  }

  avoids(peer: string, now: number): boolean {
    return this.peers.has(peer, now);
  }

  get size(): number {
    return this.peers.size;
  }
}
