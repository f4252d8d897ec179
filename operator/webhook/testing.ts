/** AdmissionReviews and a context for the webhook's tests. */
import { decisionSettings, injectionSettings, namespaceOf } from '../injection/testing.ts';
import type { AdmissionContext } from './admission.ts';

export function reviewOf(pod: unknown, more: Record<string, unknown> = {}) {
  return {
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    request: {
      uid: '705ab4f5-6393-11e8-b7cc-42010a800002',
      kind: { group: '', version: 'v1', kind: 'Pod' },
      resource: { group: '', version: 'v1', resource: 'pods' },
      namespace: 'shop',
      operation: 'CREATE',
      dryRun: false,
      object: pod,
      ...more,
    },
  };
}

export function contextOf(more: Partial<AdmissionContext> = {}): AdmissionContext & { counted: string[] } {
  const counted: string[] = [];
  return {
    decision: decisionSettings,
    injection: injectionSettings,
    namespace: async (name) => namespaceOf({}, name),
    suspended: () => false,
    count: (result, reason) => counted.push(`${result} ${reason}`.trim()),
    counted,
    ...more,
  };
}
