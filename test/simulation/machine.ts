/** How the simulation makes a rewriter, and a stand-in that does nothing, for the harness's own tests. */

import type {
  CheckpointStore,
  Policy,
  RewriterMachine,
  RewriterOptions,
} from '../../sidecar/rewriter/types.ts';
import type { HostPlan } from './scenario.ts';

export type MachineFactory = (options: RewriterOptions) => RewriterMachine;

/** Accepts every packet as it is, and marks connections plain at the first packet that is no SYN. */
export const passThrough: MachineFactory = (options) => ({
  handle(_direction, _bytes, token) {
    options.output.verdict(token, { kind: 'accept' });
  },
  nextTimeout: () => undefined,
  advance() {},
  setPolicy() {},
  setTrustKeys() {},
  setAppSupport() {},
  flushSessionCache() {},
  *connections() {},
  counts: () => ({ setup: 0, encrypted: 0, plain: 0, cachedSessions: 0 }),
  reconcile() {},
  restore: () => 0,
});

export function policyOf(plan: HostPlan): Policy {
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
