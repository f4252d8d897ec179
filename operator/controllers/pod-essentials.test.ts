import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decide } from '../injection/decision.ts';
import { inject, isInjected } from '../injection/mutation.ts';
import type { Pod } from '../injection/pod.ts';
import { controllerOf } from '../injection/suspension.ts';
import { anyPod, decisionSettings, injectionSettings, namespaceOf, podOf } from '../injection/testing.ts';
import { podEssentials } from './pod-essentials.ts';

const stored = (pod: object, status: object = { phase: 'Running' }) => {
  const metadata = {
    namespace: 'shop',
    uid: 'u',
    resourceVersion: '7',
    creationTimestamp: '2026-01-01T00:00:00Z',
  };
  const parts = pod as ReturnType<typeof podOf>;
  return { ...parts, metadata: { name: 'web', ...parts.metadata, ...metadata }, status };
};

/** The API server takes no pod that mounts a volume which it has not. */
function isStorable({ spec }: Pod): boolean {
  const mounts = [...(spec.initContainers ?? []), ...spec.containers].flatMap(
    (each) => each.volumeMounts ?? [],
  );
  return mounts.every(({ name }) => spec.volumes?.some((volume) => volume.name === name));
}

test('what is kept of a pod is enough to decide alike, for any pod', () => {
  fc.assert(
    fc.property(anyPod, (pod) => {
      fc.pre(isStorable(pod));
      const decision = (each: typeof pod) => decide(each, namespaceOf(), decisionSettings, () => false);
      const kept = podEssentials(stored(pod));
      assert.deepEqual(decision(kept), decision(pod));
      assert.equal(isInjected(kept), isInjected(pod));
    }),
  );
});

test('the constraints of nodes, the owner, the age and the end are kept, and little else', () => {
  const terms = [{ matchExpressions: [{ key: 'kubernetes.io/arch', operator: 'In', values: ['s390x'] }] }];
  const required = { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: terms } };
  const pod = podOf(
    {
      affinity: { nodeAffinity: required },
      nodeSelector: { 'kubernetes.io/arch': 's390x' },
      hostNetwork: true,
      runtimeClassName: 'gvisor',
    },
    {
      ownerReferences: [{ kind: 'Job', name: 'j', uid: 'owner', controller: true }],
      annotations: { 'kubectl.kubernetes.io/last-applied-configuration': 'x'.repeat(10_000) },
    },
  );
  const kept = podEssentials(stored(pod, { phase: 'Succeeded' }));
  assert.equal(kept.ended, true);
  assert.equal(kept.createdMs, Date.UTC(2026, 0, 1));
  assert.equal(controllerOf(kept), 'owner');
  assert.deepEqual(kept.spec.nodeSelector, pod.spec.nodeSelector);
  assert.deepEqual(kept.spec.affinity, pod.spec.affinity);
  assert.equal(kept.spec.hostNetwork, true);
  const injected = podEssentials(stored(inject(pod, injectionSettings).pod));
  assert.ok(isInjected(injected));
  assert.ok(JSON.stringify(injected).length < 1000);
});
