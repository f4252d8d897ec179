/**
 * The destinations with which tcpcrypt failed lately, as the node's sidecars tell, for the others of the same
 * namespace. What they tell is what any pod may invent, so it goes to no other namespace, and both its number and its
 * time are bounded: at worst pods of one namespace go plain where they have not spoken tcpcrypt before.
 */
import { isIP } from 'node:net';

/** As the control socket has it. */
export interface Listed {
  readonly address: string;
  readonly forSeconds: number;
}

interface Told {
  readonly pod: string;
  readonly address: string;
  readonly untilMs: number;
}

const PER_POD = 256;
/** What a sidecar takes. */
const PER_NAMESPACE = 1024;
/** Of an entry that nobody says again: its pod has ended. */
const KEEP_MS = 600_000;
/** Of an IPv6 address with an IPv4 one in it. */
const MAX_ADDRESS_LENGTH = 45;

export class NegativeLists {
  /** By namespace, then by pod and address; what was told last comes last. */
  readonly #told = new Map<string, Map<string, Told>>();

  /** What a pod has on its list now, in place of what it told before. `entries`: any JSON. */
  tell(namespace: string, pod: string, entries: unknown, nowMs: number): void {
    const told = this.#told.get(namespace) ?? new Map<string, Told>();
    for (const [key, entry] of told) if (entry.pod === pod || entry.untilMs <= nowMs) told.delete(key);
    for (const entry of Array.isArray(entries) ? entries.slice(0, PER_POD) : []) {
      const { address, forSeconds } = Object(entry) as Record<string, unknown>;
      if (typeof address !== 'string' || address.length > MAX_ADDRESS_LENGTH || !isIP(address)) continue;
      if (typeof forSeconds !== 'number' || !(forSeconds > 0)) continue;
      const untilMs = nowMs + Math.min(forSeconds * 1000, KEEP_MS);
      told.set(`${pod} ${address}`, { pod, address, untilMs });
    }
    for (const key of told.keys()) {
      if (told.size <= PER_NAMESPACE) break;
      told.delete(key);
    }
    if (told.size > 0) this.#told.set(namespace, told);
    else this.#told.delete(namespace);
  }

  /** What the other pods of its namespace told. */
  for(namespace: string, pod: string, nowMs: number): Listed[] {
    const longest = new Map<string, number>();
    for (const told of this.#told.get(namespace)?.values() ?? []) {
      if (told.pod === pod || told.untilMs <= nowMs) continue;
      longest.set(told.address, Math.max(longest.get(told.address) ?? 0, told.untilMs));
    }
    return [...longest].map(([address, untilMs]) => ({
      address,
      forSeconds: Math.ceil((untilMs - nowMs) / 1000),
    }));
  }

  /** Lets go of what is past, of namespaces too whose pods are all gone. */
  expire(nowMs: number): void {
    for (const [namespace, told] of this.#told) {
      for (const [key, { untilMs }] of told) if (untilMs <= nowMs) told.delete(key);
      if (told.size === 0) this.#told.delete(namespace);
    }
  }

  get size(): number {
    let size = 0;
    for (const told of this.#told.values()) size += told.size;
    return size;
  }
}
