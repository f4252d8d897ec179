/** A policy document in the form that the rewriter asks (`Policy` of sidecar/rewriter/types.ts, by structure). */
import { createHash } from 'node:crypto';
import { contains, formatCidr, parseAddress } from './cidr.ts';
import type { Authentication, Mode, PolicyDocument, PolicyRule } from './document.ts';

export interface PolicyDecision {
  readonly mode: Mode;
  readonly authentication: Authentication;
}

export interface CompiledPolicy {
  /** Names the content: the same document, however written, has the same. */
  readonly generation: string;
  /** `port` is the listener's port; `peer` the remote address as text. The first rule that matches decides. */
  decide(direction: 'Inbound' | 'Outbound', port: number, peer: string): PolicyDecision;
  readonly keyExchanges: readonly number[];
  readonly suites: readonly number[];
  readonly sessionCache: PolicyDocument['sessionCache'];
  readonly rekey: PolicyDocument['rekey'];
  readonly rstCheck: boolean;
  readonly pathChecks: PolicyDocument['pathChecks'];
}

export function compilePolicy(document: PolicyDocument): CompiledPolicy {
  const { mode, authentication, rules, algorithms, sessionCache, rekey, rstCheck, pathChecks } = document;
  const otherwise: PolicyDecision = { mode, authentication };
  return {
    generation: policyGeneration(document),
    decide(direction, port, peer) {
      if (rules.length === 0) return otherwise;
      const address = parseAddress(peer);
      return rules.find((rule) => matches(rule, direction, port, address)) ?? otherwise;
    },
    keyExchanges: algorithms.keyExchanges,
    suites: algorithms.suites,
    sessionCache,
    rekey,
    rstCheck,
    pathChecks,
  };
}

function matches(
  { direction, ports, peers }: PolicyRule,
  of: 'Inbound' | 'Outbound',
  port: number,
  address: Uint8Array | undefined,
): boolean {
  if (direction !== 'Both' && direction !== of) return false;
  if (ports.length > 0 && !ports.some((range) => range.port <= port && port <= range.endPort)) return false;
  if (peers.length === 0) return true;
  if (address === undefined) return false;
  return peers.some(
    ({ cidr, except }) => contains(cidr, address) && !except.some((block) => contains(block, address)),
  );
}

/** The first 12 hex digits of SHA-256 over the canonical document. */
export function policyGeneration(document: PolicyDocument): string {
  const canonical = JSON.stringify(document, (_, value) =>
    value?.network instanceof Uint8Array ? formatCidr(value) : value,
  );
  return createHash('sha256').update(canonical).digest('hex').slice(0, 12);
}
