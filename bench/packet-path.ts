/** An encrypted connection between two rewriters in memory, and batches of packets through it, for `micro.ts`. */
import type { Suite } from '../sidecar/crypto/asm.ts';
import { nativeSuites } from '../sidecar/nfqueue-bindings/suites.ts';
import { HEADROOM_BYTES } from '../sidecar/rewriter/fast-path.ts';
import { type End, Script, testPolicy } from '../sidecar/rewriter/testing.ts';
import type { Verdict } from '../sidecar/rewriter/types.ts';
import { write32 } from '../sidecar/wire/bytes.ts';
import { seqNumber } from '../sidecar/wire/packet.ts';

/**
 * `data`: full segments. `ack`: segments without data. `super-segment`: what the kernel hands over at once, of suites
 * with an aggregate MAC. All with timestamps, IPv4.
 */
export type PathKind = 'data' | 'ack' | 'super-segment';

/** By `rewriteInPlace`, or by `handle` as what is not ordinary. */
export type PathWay = 'quick' | 'general';

export interface EncryptedPath {
  /** Packets in a batch. */
  readonly count: number;
  /** The client's kernel sends a batch; what leaves its rewriter is kept. */
  send(): void;
  /** The server's rewriter receives the batch that was sent last, once. */
  receive(): void;
}

const DATA_BYTES = { data: 1420, ack: 0, 'super-segment': 60_000 };
const NOW = 5000;

export function encryptedPath(suite: Suite, kind: PathKind, way: PathWay): EncryptedPath {
  const policy = testPolicy({}, { suites: [suite.id] });
  const script = new Script({
    client: { policy, suites: nativeSuites },
    server: { policy, suites: nativeSuites },
  });
  script.encrypt();
  // The client's first segment with a MAC has come; the first of the server's is still to come.
  const greeting = script.server.through('out', script.s({ offset: 1, ack: 1 }));
  script.client.through('in', greeting);
  const data = new Uint8Array(DATA_BYTES[kind]).fill(0x61);
  const isSuper = kind === 'super-segment';
  const count = isSuper ? 200 : 4000;
  const mark = isSuper ? 'superSegment' : 'tcpcrypt';
  const offload = { superSegment: isSuper, checksumLater: isSuper };
  const { bytes, tcp } = script.c({ offset: 1, ack: 1, data });
  let seq = seqNumber({ bytes, tcp, version: 4, payload: 0 });
  const wire: Uint8Array[] = [];
  let token = 1_000_000;

  let sent = 0;
  const keep = (packet: Uint8Array): void => {
    wire[sent] ??= new Uint8Array(packet.length);
    wire[sent++]!.set(packet);
  };
  divert(script.client, (verdict) => {
    if (verdict.kind !== 'accept' || !verdict.bytes) throw new Error('a packet did not leave');
    keep(verdict.bytes);
  });
  divert(script.server, (verdict) => {
    if (verdict.kind !== 'accept' || !verdict.bytes) throw new Error('a packet did not arrive');
  });
  // As in the ring: room before the packet at hand, which is written into.
  const ring = new Uint8Array(HEADROOM_BYTES + bytes.length);
  const packet = ring.subarray(HEADROOM_BYTES);
  let leaving: Uint8Array | undefined;
  const { client, server } = { client: script.client.rewriter, server: script.server.rewriter };

  return {
    count,
    send() {
      sent = 0;
      for (let i = 0; i < count; i++) {
        packet.set(bytes);
        write32(packet, tcp + 4, seq);
        seq = (seq + data.length) >>> 0;
        if (way === 'general') {
          client.handle('out', packet, ++token, mark, NOW, offload);
          continue;
        }
        const start = client.rewriteInPlace('out', ring, HEADROOM_BYTES, ring.length, mark, NOW, offload);
        if (start < 0) throw new Error('an ordinary packet was not taken');
        leaving ??= ring.subarray(start);
        keep(leaving);
      }
    },
    receive() {
      for (const each of wire) {
        if (way === 'general') server.handle('in', each, ++token, mark, NOW, offload);
        else if (server.rewriteInPlace('in', each, 0, each.length, mark, NOW, offload) < 0) {
          throw new Error('an ordinary packet was not taken');
        }
      }
    },
  };
}

/** Takes an end's verdicts instead of collecting them. */
function divert(end: End, take: (verdict: Verdict) => void): void {
  Object.assign(end, { verdicts: { set: (_token: number, verdict: Verdict) => take(verdict) } });
}
