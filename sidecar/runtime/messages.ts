/** What the main thread and the packet thread say to each other. Plain data: it crosses by structured clone. */
import type { ErrorCode } from '../../errors/catalogue.ts';
import type { PolicyDocument } from '../../policy/document.ts';
import type { Listed } from '../protocol/negative-list.ts';
import type { TrustKey } from '../protocol/types.ts';
import type { AppSupport, ConnectionInfo } from '../rewriter/types.ts';
import type { Series } from './shared-counters.ts';

/** Settings of a packet thread. */
export interface PacketThreadOptions {
  /** Which of how many it is, from 0. */
  readonly worker: number;
  readonly workers: number;
  readonly setupQueue: number;
  readonly dataQueue: number;
  readonly superSegmentQueue: number;
  readonly markMask: number;
  readonly injectMark: number;
  /** New connections without a decision of the rewriter's are dropped, not passed. */
  readonly strict: boolean;
  readonly encodings: { readonly write: 'experimental' | 'legacy'; readonly readBoth: boolean };
  readonly stateDir: string | undefined;
  readonly keyLogFile: string | undefined;
  readonly clusterCidrs: readonly string[];
  readonly nodeCidrs: readonly string[];
  readonly policy: PolicyDocument;
  readonly trustKeys: readonly TrustKey[];
  /** Each connection's outcome is told, not only refusals. */
  readonly verbose: boolean;
}

/** A request has an id and is answered with `done`, a list with `connections` or its like before. */
export type ToPacketThread =
  | { readonly kind: 'policy'; readonly document: PolicyDocument }
  | { readonly kind: 'keys'; readonly keys: readonly TrustKey[] }
  | { readonly kind: 'sockets'; readonly v4: Uint8Array; readonly v6: Uint8Array }
  | { readonly kind: 'app-support'; readonly id: number; readonly port: number; readonly support: AppSupport }
  | { readonly kind: 'flush-cache'; readonly id: number }
  | { readonly kind: 'negative-list'; readonly id: number; readonly entries: readonly Listed[] }
  | { readonly kind: 'list'; readonly id: number; readonly local?: string; readonly remote?: string }
  | { readonly kind: 'drain' }
  | { readonly kind: 'stop' };

export type LogLevelName = 'debug' | 'info' | 'warn' | 'error';

export type FromPacketThread =
  | { readonly kind: 'ready'; readonly wakeFd: number; readonly restored: number }
  | { readonly kind: 'failed'; readonly code: ErrorCode; readonly message: string }
  | { readonly kind: 'series'; readonly series: Series }
  | {
      readonly kind: 'log';
      readonly level: LogLevelName;
      readonly message: string;
      readonly fields: Readonly<Record<string, unknown>>;
    }
  | { readonly kind: 'connections'; readonly id: number; readonly connections: readonly ConnectionInfo[] }
  | { readonly kind: 'negative-list'; readonly id: number; readonly entries: readonly Listed[] }
  | { readonly kind: 'done'; readonly id: number; readonly error?: string }
  | { readonly kind: 'stopped' };

/** Cells of the memory that both threads see beside the counters. Each has one writer. */
export const cells = {
  /** The packet thread: when it last went round, on the monotonic clock. */
  heartbeatMs: 0,
  /** The main thread: 1 while conntrack is near full. */
  conntrackNearFull: 1,
} as const;
const CELLS = 2;

export function createCells(): SharedArrayBuffer {
  return new SharedArrayBuffer(CELLS * Float64Array.BYTES_PER_ELEMENT);
}
