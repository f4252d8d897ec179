/** Tables as full as a busy host's, for `micro.ts`. */
import { randomBytes } from 'node:crypto';
import { SessionCache } from '../sidecar/protocol/session-cache.ts';
import type { Connection } from '../sidecar/rewriter/connection.ts';
import { emptyPlace, Flows, placeFlow } from '../sidecar/rewriter/flows.ts';
import { ACK, flowKey } from '../sidecar/wire/packet.ts';
import { makePacket } from '../sidecar/wire/testing.ts';

/** `find` looks up a packet of each of so many connections, in an order of no rule. */
export function liveConnections(count: number): { packets: number; find: () => void } {
  const flows = new Flows();
  const packets = Array.from({ length: count }, (_, i) => {
    const source = `10.${i % 7}.${(i >> 8) % 256}.${i % 256}`;
    const ends = { source, sourcePort: 30_000 + (i % 20_000), destination: '10.9.9.9', destinationPort: 443 };
    const packet = makePacket({ version: 4, ...ends, seq: 0, ack: 0, flags: ACK, window: 0 });
    flows.add({ key: flowKey(packet, 'in') } as Connection);
    return packet;
  }).sort((a, b) => order(a.bytes) - order(b.bytes));
  const place = emptyPlace();
  const find = (): void => {
    for (const { bytes, tcp } of packets) {
      placeFlow(place, 0, tcp, false);
      if (flows.find(bytes, place) === undefined) throw new Error('a connection is not found');
    }
  };
  return { packets: count, find };
}

/** Of so many full handshakes, as a passive opener. */
export function cachedSessions(count: number): SessionCache {
  const cache = new SessionCache({ enabled: true, maxEntries: count, lifetimeMs: 3_600_000 });
  const attributes = {
    ...{ role: 'S' as const, keyExchange: 1, suite: 1, authenticated: false },
    ...{ keyId: undefined, peerAppSupport: false },
  };
  for (let i = 0; i < count; i++) cache.add(`10.0.${i >> 8}.${i % 256}`, randomBytes(32), 0, attributes, 0);
  return cache;
}

/** The checksum of TCP is as good as a random number. */
const order = (bytes: Uint8Array): number => (bytes[36]! << 8) | bytes[37]!;
