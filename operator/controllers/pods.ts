/**
 * Looks at the cluster's pods: which are injected, which are left alone and why, and which should be injected and are
 * not (older than the installation, or made while no webhook answered). Reports by events and metrics; changes nothing.
 */

import { startInformer } from '../../kubernetes/informer.ts';
import type { Logger } from '../../observability/log.ts';
import type { Cluster } from '../cluster/client.ts';
import type { EventWriter } from '../cluster/events.ts';
import type { Namespaces } from '../cluster/namespaces.ts';
import { type Decision, type DecisionSettings, decide } from '../injection/decision.ts';
import { explain } from '../injection/explanations.ts';
import { isInjected } from '../injection/mutation.ts';
import type { Pod } from '../injection/pod.ts';
import { controllerOf } from '../injection/suspension.ts';
import type { Metrics } from '../metrics.ts';
import { type PodEssentials, podEssentials } from './pod-essentials.ts';

export type PodState = 'injected' | 'left_alone' | 'excluded' | 'missing';

/** Events are for what happens now: at the operator's start there may be thousands of old pods. */
const NEWS_MS = 10 * 60_000;

export interface PodsControllerContext {
  readonly cluster: Cluster;
  readonly settings: DecisionSettings;
  readonly namespaces: Namespaces;
  readonly suspended: (pod: Pod, namespace: string) => boolean;
  readonly events: EventWriter;
  readonly metrics: Metrics;
  readonly log: Logger;
  /** A pod without our container was stored. */
  readonly uninjected: (namespace: string, owner: string, createdMs: number) => void;
}

export function runPodsController(context: PodsControllerContext, stop: AbortSignal): void {
  const { cluster, log, metrics } = context;
  const informer = startInformer<PodEssentials>(
    cluster.config,
    {
      what: 'pods',
      path: '/api/v1/pods',
      list: (page) => cluster.core.listPodForAllNamespaces(page),
      reduce: podEssentials,
    },
    log,
  );
  stop.addEventListener('abort', () => {
    informer.stop();
    metrics.replace('tcpcrypt_operator_pods', []);
    metrics.replace('tcpcrypt_operator_pods_left_alone', []);
  });
  informer.on('change', (pod) => look(pod, context));
  metrics.beforeScrape(() => summarise(informer.list(), context), stop);
}

function look(pod: PodEssentials, context: PodsControllerContext): void {
  const { namespace } = pod.metadata;
  const [state, decision] = stateOf(pod, context);
  const owner = controllerOf(pod);
  if (state !== 'injected' && owner !== undefined) context.uninjected(namespace, owner, pod.createdMs);
  if (pod.ended || Date.now() - pod.createdMs > NEWS_MS) return;
  const about = { apiVersion: 'v1', kind: 'Pod', name: pod.metadata.name, namespace, uid: pod.metadata.uid };
  if (decision?.kind === 'left_alone') {
    context.events.write({
      name: `tcpcrypt-${pod.metadata.uid}-${decision.reason.replaceAll('_', '-')}`,
      about,
      type: 'Normal',
      reason: 'TcpcryptLeftAlone',
      message: `Its TCP stays as it is (${decision.reason}): ${explain(decision)}.`,
    });
  }
  if (state === 'missing') {
    context.events.write({
      name: `tcpcrypt-${pod.metadata.uid}-missing`,
      about,
      type: 'Warning',
      reason: 'TcpcryptNotInjected',
      message:
        'It should have the tcpcrypt sidecar and has not: the webhook was not reached when it was made. Its TCP is not encrypted.',
    });
  }
}

function stateOf(
  pod: PodEssentials,
  context: PodsControllerContext,
): [PodState | undefined, Decision | undefined] {
  if (isInjected(pod)) return ['injected', undefined];
  const namespace = context.namespaces.known(pod.metadata.namespace);
  if (namespace === undefined) return [undefined, undefined];
  const decision = decide(pod, namespace, context.settings, (each) =>
    context.suspended(each, namespace.name),
  );
  return [decision.kind === 'inject' ? 'missing' : decision.kind, decision];
}

function summarise(pods: readonly PodEssentials[], context: PodsControllerContext): void {
  const states = new Map<string, [{ namespace: string; state: PodState }, number]>();
  const reasons = new Map<string, number>();
  for (const pod of pods) {
    if (pod.ended) continue;
    const [state, decision] = stateOf(pod, context);
    if (state === undefined) continue;
    const { namespace } = pod.metadata;
    const key = `${namespace} ${state}`;
    states.set(key, [{ namespace, state }, (states.get(key)?.[1] ?? 0) + 1]);
    if (decision?.kind === 'left_alone')
      reasons.set(decision.reason, (reasons.get(decision.reason) ?? 0) + 1);
  }
  context.metrics.replace('tcpcrypt_operator_pods', [...states.values()]);
  context.metrics.replace(
    'tcpcrypt_operator_pods_left_alone',
    [...reasons].map(([reason, number]) => [{ reason }, number]),
  );
}
