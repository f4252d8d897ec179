/**
 * Injection that stops by itself. Where the API server refuses pods (quota, policy engine), nobody says whether it is
 * because of our container. So it is tried: the next pod of that owner (ReplicaSet, Job, ...) is let through without. If it is
 * then accepted, it was our container, and injection stops in the namespace for a while; if it is refused all the same,
 * it was not, and that owner's refusals do not concern us for a while. Pure: the state is a ConfigMap's data, one entry
 * a namespace, that the leader writes and every replica reads.
 */
import type { Pod } from './pod.ts';

export type Phase = 'trial' | 'suspended' | 'not_ours';

export interface Entry {
  readonly phase: Phase;
  /** UID of the pods' controller. */
  readonly owner: string;
  /** RFC 3339. */
  readonly since: string;
  readonly until: string;
  /** What the API server said, cut. */
  readonly message: string;
}

export type Suspensions = Readonly<Record<string, Entry>>;

export interface Refusal {
  readonly namespace: string;
  readonly owner: string;
  readonly message: string;
  readonly atMs: number;
}

/** A trial ends by itself: the owner may be gone, or scaled down. */
const TRIAL_MS = 10 * 60_000;
/** A refusal so soon after a trial began may have been under way: not every replica knew of the trial. */
const PROPAGATION_MS = 3000;
const MAX_MESSAGE = 300;
/** A ConfigMap holds 1 MiB; past this further namespaces are not tried. */
const MAX_ENTRIES = 1000;

/** A verdict on the pod itself, and no failure on the way there (a webhook that does not answer, a full API server). */
export function isRefusal(message: string): boolean {
  return (
    /is forbidden|denied the request|is invalid/i.test(message) &&
    !/failed calling webhook|timed? ?out|connection refused|is being terminated|unable to create new content/i.test(
      message,
    )
  );
}

/** What the entries become when the API server has refused a pod; the same object if nothing changes. */
export function afterRefusal(
  entries: Suspensions,
  refusal: Refusal,
  nowMs: number,
  suspendForMs: number,
): Suspensions {
  const { namespace, owner, atMs } = refusal;
  const entry = entries[namespace];
  if (entry === undefined && Object.keys(entries).length >= MAX_ENTRIES) return entries;
  const next = (phase: Phase, forMs: number): Suspensions => ({
    ...entries,
    [namespace]: {
      phase,
      owner,
      since: new Date(nowMs).toISOString(),
      until: new Date(nowMs + forMs).toISOString(),
      message: refusal.message.slice(0, MAX_MESSAGE),
    },
  });
  switch (entry?.phase) {
    case 'suspended':
      return entries;
    case 'trial': {
      const tried = entry.owner === owner && atMs >= Date.parse(entry.since) + PROPAGATION_MS;
      return tried ? next('not_ours', suspendForMs) : entries;
    }
    case 'not_ours':
      return entry.owner === owner ? entries : next('trial', TRIAL_MS);
    default:
      return next('trial', TRIAL_MS);
  }
}

/** What they become when a pod without our container has been stored. */
export function afterCreation(
  entries: Suspensions,
  { namespace, owner, createdMs }: { namespace: string; owner: string; createdMs: number },
  nowMs: number,
  suspendForMs: number,
): Suspensions {
  const entry = entries[namespace];
  // Creation times are whole seconds.
  if (entry?.phase !== 'trial' || entry.owner !== owner || createdMs + 1000 <= Date.parse(entry.since))
    return entries;
  return {
    ...entries,
    [namespace]: {
      ...entry,
      phase: 'suspended',
      since: new Date(nowMs).toISOString(),
      until: new Date(nowMs + suspendForMs).toISOString(),
    },
  };
}

/** Without what is over: its time has passed, or its namespace is gone. */
export function withoutEnded(
  entries: Suspensions,
  nowMs: number,
  exists: (namespace: string) => boolean,
): Suspensions {
  const left = Object.entries(entries).filter(
    ([namespace, { until }]) => Date.parse(until) > nowMs && exists(namespace),
  );
  return left.length === Object.keys(entries).length ? entries : Object.fromEntries(left);
}

/** Whether a pod that is being made now is to be left alone. */
export function isSuspended(entries: Suspensions, pod: Pod, namespace: string, nowMs: number): boolean {
  const entry = entries[namespace];
  if (entry === undefined || Date.parse(entry.until) <= nowMs) return false;
  return entry.phase === 'suspended' || (entry.phase === 'trial' && controllerOf(pod) === entry.owner);
}

/** UID of the object that makes and replaces this pod. */
export function controllerOf({ metadata }: Pod): string | undefined {
  return metadata.ownerReferences?.find(({ controller }) => controller === true)?.uid;
}

const PHASES: readonly unknown[] = ['trial', 'suspended', 'not_ours'];

/** Of a ConfigMap's data; entries that are not ours are left out. */
export function readSuspensions(data: Readonly<Record<string, string>> | undefined): Suspensions {
  const entries: Record<string, Entry> = {};
  for (const [namespace, text] of Object.entries(data ?? {}).slice(0, MAX_ENTRIES)) {
    try {
      const entry = JSON.parse(text) as Entry;
      const texts = [entry.owner, entry.since, entry.until, entry.message];
      if (PHASES.includes(entry.phase) && texts.every((each) => typeof each === 'string'))
        entries[namespace] = entry;
    } catch {
      // Not ours.
    }
  }
  return entries;
}

export function writeSuspensions(entries: Suspensions): Record<string, string> {
  return Object.fromEntries(
    Object.entries(entries).map(([namespace, entry]) => [namespace, JSON.stringify(entry)]),
  );
}
