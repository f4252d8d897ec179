/**
 * What the webhook answers for a pod: `mutate` puts the sidecar in, `enforce` refuses a pod without it. Neither has a
 * side effect besides counting, so a dry run differs in nothing but the count.
 */

import { type Decision, type DecisionSettings, decide, type Namespace } from '../injection/decision.ts';
import { explain } from '../injection/explanations.ts';
import {
  type InjectionSettings,
  inject,
  isInjected,
  startsBehindSidecar,
  withoutSidecar,
} from '../injection/mutation.ts';
import { podPatch } from '../injection/patch.ts';
import { type Pod, readPod } from '../injection/pod.ts';
import type { PodReview, Verdict } from './review.ts';

export interface AdmissionContext {
  readonly decision: DecisionSettings;
  readonly injection: InjectionSettings;
  /** From memory where it is there, else from the API server. */
  readonly namespace: (name: string) => Promise<Namespace>;
  readonly suspended: (pod: Pod, namespace: string) => boolean;
  /** Once for each pod that is really made. */
  readonly count: (result: InjectionResult, reason: string) => void;
}

export type InjectionResult = 'injected' | 'left_alone' | 'excluded' | 'invalid';

export async function mutate(
  { namespace, dryRun, pod: raw }: PodReview,
  context: AdmissionContext,
): Promise<Verdict> {
  const pod = readPod(raw);
  if ('problem' in pod) {
    // The API server will refuse it, or knows a field that we do not: either is its business.
    if (!dryRun) context.count('invalid', 'pod');
    return { allowed: true, audit: { result: 'invalid' } };
  }
  const decision = await decisionFor(pod, namespace, context);
  const first = !isInjected(pod);
  if (decision.kind === 'inject') {
    const { pod: injected, warnings } = inject(pod, context.injection);
    if (first && !dryRun) context.count('injected', '');
    return { allowed: true, patch: podPatch(pod, injected), warnings, audit: { result: 'injected' } };
  }
  // Also on a second call: another mesh's injector may have come after us, and then ours goes again.
  if (!dryRun) context.count(decision.kind, decision.reason);
  const audit = { result: decision.kind, reason: decision.reason };
  return { allowed: true, patch: podPatch(pod, withoutSidecar(pod)), audit };
}

export async function enforce(
  { namespace, pod: raw }: PodReview,
  context: AdmissionContext,
): Promise<Verdict> {
  const pod = readPod(raw);
  if ('problem' in pod) return { allowed: false, message: pod.problem, audit: { result: 'invalid' } };
  if (startsBehindSidecar(pod, context.injection)) return { allowed: true, audit: { result: 'injected' } };
  const decision = await decisionFor(pod, namespace, context);
  return {
    allowed: false,
    message: `ERR_TCPCRYPT_NOT_INJECTED: namespace ${namespace} enforces tcpcrypt (label tcpcrypt.io/enforce: strict) and this pod has no sidecar: ${explain(decision)}`,
    audit: { result: 'refused' },
  };
}

async function decisionFor(pod: Pod, name: string, context: AdmissionContext): Promise<Decision> {
  const namespace = await context.namespace(name);
  return decide(pod, namespace, context.decision, (each) => context.suspended(each, name));
}
