/**
 * What ICMP errors said of the paths to peers. The kernel believes the smaller MTU that it was told, which leaves room
 * for what the rewriter adds; what the rewriter has added to must then leave past the kernel's own check. Pure.
 */
import { ExpiringMap } from './expiring-map.ts';

export interface PathMtu {
  /** IP bytes: what the kernel was told and lets pass, and what the path takes. */
  readonly toldBytes: number;
  readonly takesBytes: number;
  readonly untilMs: number;
}

/** A little longer than the kernel keeps its own (net.ipv4.route.mtu_expires, net.ipv6.route.mtu_expires). */
const LIFETIME_MS = 610_000;
const MAX_PEERS = 4096;

export class PathMtus {
  private readonly peers = new ExpiringMap<PathMtu>(MAX_PEERS);

  note(peer: string, toldBytes: number, takesBytes: number, now: number): PathMtu {
    const untilMs = now + LIFETIME_MS;
    const path = { toldBytes, takesBytes, untilMs };
    this.peers.set(peer, path, untilMs);
    return path;
  }

  get(peer: string, now: number): PathMtu | undefined {
    return this.peers.get(peer, now);
  }
}
