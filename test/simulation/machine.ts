/** How the simulation makes a rewriter, and a stand-in that does nothing, for the harness's own tests. */

import { derandomizedKeyExchanges } from '../../sidecar/crypto/mlkem.testing.ts';
import type {
  CheckpointStore,
  Observer,
  Output,
  Policy,
  RewriterMachine,
  RewriterOptions,
} from '../../sidecar/rewriter/types.ts';
import type { Random } from './random.ts';
import type { HostPlan } from './scenario.ts';

export type MachineFactory = (options: RewriterOptions) => RewriterMachine;

/** Accepts every packet as it is, and marks connections plain at the first packet that is no SYN. */
export const passThrough: MachineFactory = (options) => ({
  handle(_direction, _bytes, token) {
    options.output.verdict(token, { kind: 'accept' });
  },
  rewriteInPlace: () => -1,
  nextTimeout: () => undefined,
  advance() {},
  setPolicy() {},
  setTrustKeys() {},
  setAppSupport() {},
  flushSessionCache() {},
  *connections() {},
  counts: () => ({ setup: 0, encrypted: 0, plain: 0, cachedSessions: 0, sharedListings: 0 }),
  shareNegativeList: () => [],
  reconcile() {},
  restore: () => 0,
});

function policyOf(plan: HostPlan): Policy {
  return {
    generation: 'simulation',
    decide: () => ({ mode: plan.mode, authentication: plan.authentication }),
    keyExchanges: plan.keyExchanges,
    suites: plan.suites,
    sessionCache: { enabled: plan.sessionCache, maxEntries: 100, lifetimeMs: 3_600_000 },
    rekey: { afterBytes: plan.rekeyAfterBytes, afterMs: 86_400_000 },
    rstCheck: plan.rstCheck,
  };
}

/** A checkpoint store that outlives a rewriter. */
export class MemoryStore implements CheckpointStore {
  readonly records = new Map<string, Uint8Array>();

  put(key: string, record: Uint8Array): void {
    this.records.set(key, record.slice());
  }

  delete(key: string): void {
    this.records.delete(key);
  }
}

/** The rewriter of one host: its plan, where its packets go, and what it reports, for the trace and the checks. */
export function rewriterOptions(
  plan: HostPlan,
  host: { readonly filter: Output; readonly store: CheckpointStore; readonly random: Random },
  line: (text: string) => void,
  decided: Observer['decided'],
): RewriterOptions {
  return {
    output: host.filter,
    observer: {
      decided: (event) => {
        const { role, local, remote, reason } = event.connection;
        line(`decided ${event.outcome} ${event.handshake} ${role} ${local} ${remote} ${reason ?? ''}`);
        decided(event);
      },
      cacheLookup() {},
      rekeyed: (direction) => line(`rekeyed ${direction}`),
      macFailure: () => line('mac failure'),
      dropped: (why) => line(`dropped: ${why}`),
    },
    policy: policyOf(plan),
    random: (length) => host.random.bytes(length),
    keyExchanges: derandomizedKeyExchanges,
    encodings: { write: plan.legacy ? 'legacy' : 'experimental', readBoth: false },
    trustKeys: plan.trustKeys.map((key) => ({ key, offered: true })),
    store: host.store,
  };
}
