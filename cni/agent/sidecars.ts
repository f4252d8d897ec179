/**
 * The node's sidecars: each is given its policy, within a second of a change, and asked what it has counted and what it
 * has on its negative list, which the others of its namespace are told. One that does not answer is asked again; it
 * runs on the policy it had.
 */
import type { TcpcryptError } from '../../errors/catalogue.ts';
import { errorFields, type Logger } from '../../observability/log.ts';
import type { Metrics } from './metrics.ts';
import { NegativeLists } from './negative-lists.ts';
import type { Pod } from './pod.ts';
import type { SidecarClient } from './sidecar-client.ts';
import { increases, policyGeneration, type Reading, readCounters } from './totals.ts';
import { Turns } from './turns.ts';

export interface SidecarsOptions {
  readonly client: SidecarClient;
  readonly policyFor: (pod: Pod) => string | undefined;
  readonly metrics: Metrics;
  readonly log: Logger;
  /** Between two readings of a sidecar. */
  readonly collectMs?: number;
  /** Until one that does not answer is tried again; and between readings of one that ends. */
  readonly againMs?: number;
}

interface Known {
  pod: Pod;
  /** The policy that it took, as it was sent. */
  policy: string | undefined;
  /** What it called it. */
  generation: string;
  /** A policy that it refused is not sent again. */
  refused: string | undefined;
  reading: Reading | undefined;
  reachable: boolean;
  /** Grows while it does not answer. */
  delayMs: number;
  timer: NodeJS.Timeout | undefined;
}

const AT_ONCE = 8;
const NOTHING: Reading = new Map();

export class Sidecars {
  readonly #options: SidecarsOptions;
  readonly #known = new Map<string, Known>();
  readonly #turns = new Turns(AT_ONCE);
  readonly #negativeLists = new NegativeLists();
  #began = false;

  constructor(options: SidecarsOptions) {
    this.#options = options;
  }

  /** Pods that were told of before are older than the agent: what they counted until now was counted before. */
  begin(): void {
    this.#began = true;
  }

  /** A pod came, or changed. */
  see(pod: Pod): void {
    if (pod.sidecar === undefined) return;
    const known = this.#known.get(pod.uid);
    if (known === undefined) {
      const reading = this.#began ? NOTHING : undefined;
      const added: Known = {
        ...{ pod, reading, policy: undefined, generation: '', refused: undefined },
        ...{ reachable: false, delayMs: 0, timer: undefined },
      };
      this.#known.set(pod.uid, added);
      this.#visitSoon(added, 0);
      return;
    }
    const hurry = (pod.ending && !known.pod.ending) || (pod.sidecar.started && !known.pod.sidecar?.started);
    known.pod = pod;
    if (hurry) known.delayMs = 0;
    if (hurry || this.#wanted(known) !== undefined) this.#visitSoon(known, 0);
  }

  /** It is gone, with whatever it had not told. */
  forget(uid: string): void {
    clearTimeout(this.#known.get(uid)?.timer);
    this.#known.delete(uid);
  }

  policiesChanged(namespace: string): void {
    for (const known of this.#known.values()) {
      if (known.pod.namespace === namespace && this.#wanted(known) !== undefined) this.#visitSoon(known, 0);
    }
  }

  isReachable(uid: string): boolean {
    return this.#known.get(uid)?.reachable ?? false;
  }

  /** It answers, and has the policy that it should have. */
  isProgrammed(uid: string): boolean {
    const known = this.#known.get(uid);
    return known?.reachable === true && this.#wanted(known) === undefined && known.refused === undefined;
  }

  stop(): void {
    for (const uid of [...this.#known.keys()]) this.forget(uid);
  }

  #wanted(known: Known): string | undefined {
    const policy = this.#options.policyFor(known.pod);
    return policy === known.policy || policy === known.refused ? undefined : policy;
  }

  #visitSoon(known: Known, afterMs: number): void {
    clearTimeout(known.timer);
    known.timer = setTimeout(() => {
      void this.#turns.take(known, () => this.#visit(known));
    }, afterMs).unref();
  }

  /** Never throws. */
  async #visit(known: Known): Promise<void> {
    const { collectMs = 10_000, againMs = 500, client, metrics, log } = this.#options;
    const { uid, namespace, name } = known.pod;
    try {
      await this.#push(known);
      const text = await client.metrics(uid);
      const reading = readCounters(text);
      // The first look at a sidecar that is older than we are is where we begin.
      metrics.add(namespace, increases(known.reading ?? reading, reading));
      known.reading = reading;
      known.reachable = true;
      // It started again without its last policy, or somebody else gave it one.
      const inForce = policyGeneration(text);
      if (known.policy !== undefined && inForce !== undefined && inForce !== known.generation) {
        known.policy = undefined;
        await this.#push(known);
      }
      await this.#shareNegativeList(known);
    } catch (error) {
      if (known.reachable) log.info({ ...errorFields(error), namespace, name }, 'a sidecar does not answer');
      known.reachable = false;
    }
    if (this.#known.get(uid) !== known) return;
    // One that is to answer soon, or soon no more, is asked often.
    const starting = !known.reachable && known.pod.sidecar?.started === true;
    known.delayMs = starting ? Math.min(Math.max(known.delayMs * 2, againMs), collectMs) : 0;
    this.#visitSoon(known, known.delayMs || (known.pod.ending ? againMs : collectMs));
  }

  /** An older sidecar does not know of it. */
  async #shareNegativeList({ pod: { uid, namespace, name } }: Known): Promise<void> {
    const { client, log } = this.#options;
    const now = performance.now();
    this.#negativeLists.expire(now);
    try {
      const own = await client.shareNegativeList(uid, this.#negativeLists.for(namespace, uid, now));
      this.#negativeLists.tell(namespace, uid, own, now);
    } catch (error) {
      log.debug({ ...errorFields(error), namespace, name }, 'a sidecar takes no negative list');
    }
  }

  async #push(known: Known): Promise<void> {
    const { client, metrics, log } = this.#options;
    const policy = this.#wanted(known);
    if (policy === undefined) return;
    const { uid, namespace, name } = known.pod;
    try {
      known.generation = await client.setPolicy(uid, policy);
      known.policy = policy;
      known.refused = undefined;
      metrics.count('tcpcrypt_agent_policy_pushes_total', { result: 'success' });
    } catch (error) {
      const refused = (error as TcpcryptError).code === 'ERR_TCPCRYPT_POLICY_INVALID';
      // One that does not answer yet is no failure.
      if (refused || known.reachable) {
        metrics.count('tcpcrypt_agent_policy_pushes_total', { result: refused ? 'refused' : 'error' });
      }
      if (!refused) throw error;
      known.refused = policy;
      log.warn({ ...errorFields(error), namespace, name }, 'a sidecar refuses its policy');
    }
  }
}
