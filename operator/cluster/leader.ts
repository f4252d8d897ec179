/**
 * One replica leads: it writes certificates and policies and reports; all of them answer the webhook. The election is
 * that of client-go, on a Lease: whoever holds it renews it, and another takes it when it has not changed for its
 * duration. Time is measured on this machine alone, since clocks differ.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type V1Lease, V1MicroTime } from '@kubernetes/client-node';
import { errorFields, type Logger } from '../../observability/log.ts';
import { type Cluster, kubernetesError, statusOf, within } from './client.ts';

export interface ElectionOptions {
  readonly namespace: string;
  readonly name: string;
  /** This replica's name. */
  readonly identity: string;
  readonly durationMs: number;
  /** A holder that could not renew for so long leads no more; less than `durationMs`. */
  readonly renewWithinMs: number;
  readonly retryMs: number;
}

export const ELECTION_TIMES = { durationMs: 15_000, renewWithinMs: 10_000, retryMs: 2000 } as const;

/** What was last seen of the Lease, and since when it has not changed, by our clock. */
export interface Observation {
  readonly holder: string;
  readonly resourceVersion: string;
  readonly sinceMs: number;
}

/** Whether this replica may write its name into the Lease. */
export function mayTake(
  { holder, sinceMs }: Observation,
  { identity, durationMs }: Pick<ElectionOptions, 'identity' | 'durationMs'>,
  nowMs: number,
): boolean {
  return holder === '' || holder === identity || nowMs - sinceMs >= durationMs;
}

/**
 * Takes part until `stop` says so. Each time this replica leads, `lead` is called with a signal that says when it does
 * not any more; at the end the Lease is given back, so that another need not wait.
 */
export async function takePart(
  cluster: Cluster,
  options: ElectionOptions,
  lead: (signal: AbortSignal) => void,
  stop: AbortSignal,
  log: Logger,
): Promise<void> {
  let seen: Observation | undefined;
  let term: AbortController | undefined;
  let renewedMs = 0;
  const end = (why: string): void => {
    if (term === undefined) return;
    log.info({ why }, 'this replica leads no more');
    term.abort();
    term = undefined;
  };
  while (!stop.aborted) {
    const startedMs = performance.now();
    try {
      const lease = await within(options.renewWithinMs / 2, read(cluster, options));
      seen = observe(seen, lease, startedMs);
      if (mayTake(seen, options, performance.now())) {
        await within(options.renewWithinMs / 2, write(cluster, options, lease, options.identity));
        renewedMs = startedMs;
        if (term === undefined) {
          log.info({}, 'this replica leads');
          term = new AbortController();
          lead(term.signal);
        }
      } else {
        end('another one holds the lease');
      }
    } catch (error) {
      // 409: another replica was faster.
      if (statusOf(error) !== 409)
        log.warn(errorFields(kubernetesError(error)), 'the lease could not be renewed');
    }
    if (performance.now() - renewedMs >= options.renewWithinMs) end('the lease could not be renewed in time');
    await sleep(options.retryMs, undefined, { signal: stop }).catch(() => {});
  }
  const led = term !== undefined;
  end('it stops');
  if (led) await giveBack(cluster, options).catch(() => {});
}

function observe(before: Observation | undefined, lease: V1Lease | undefined, nowMs: number): Observation {
  const resourceVersion = lease?.metadata?.resourceVersion ?? '';
  if (before !== undefined && before.resourceVersion === resourceVersion) return before;
  return { holder: lease?.spec?.holderIdentity ?? '', resourceVersion, sinceMs: nowMs };
}

async function read(cluster: Cluster, { name, namespace }: ElectionOptions): Promise<V1Lease | undefined> {
  try {
    return await cluster.leases.readNamespacedLease({ name, namespace });
  } catch (error) {
    if (statusOf(error) === 404) return undefined;
    throw error;
  }
}

async function write(
  cluster: Cluster,
  { name, namespace, durationMs }: ElectionOptions,
  lease: V1Lease | undefined,
  holderIdentity: string,
): Promise<void> {
  const now = new V1MicroTime();
  const same = lease?.spec?.holderIdentity === holderIdentity;
  const body: V1Lease = {
    apiVersion: 'coordination.k8s.io/v1',
    kind: 'Lease',
    metadata: { ...lease?.metadata, name, namespace },
    spec: {
      ...lease?.spec,
      holderIdentity,
      leaseDurationSeconds: Math.max(1, Math.ceil(durationMs / 1000)),
      acquireTime: (same && lease?.spec?.acquireTime) || now,
      renewTime: now,
      leaseTransitions: (lease?.spec?.leaseTransitions ?? 0) + (same || holderIdentity === '' ? 0 : 1),
    },
  };
  if (lease === undefined) await cluster.leases.createNamespacedLease({ namespace, body });
  else await cluster.leases.replaceNamespacedLease({ name, namespace, body });
}

async function giveBack(cluster: Cluster, options: ElectionOptions): Promise<void> {
  const lease = await read(cluster, options);
  if (lease?.spec?.holderIdentity === options.identity) await write(cluster, options, lease, '');
}
