import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decide, type Namespace } from './decision.ts';
import { inject } from './mutation.ts';
import type { Pod } from './pod.ts';
import { decisionSettings, injectionSettings, namespaceOf, podOf } from './testing.ts';

const decided = (pod: Pod, namespace: Namespace = namespaceOf(), settings = decisionSettings) => {
  const decision = decide(pod, namespace, settings, () => false);
  return decision.kind === 'inject' ? 'inject' : `${decision.kind}: ${decision.reason}`;
};
const labelled = (value: string) => podOf({}, { labels: { 'tcpcrypt.io/inject': value } });

test('tcpcrypt.io/inject: the pod wins over the namespace, the namespace over the default', () => {
  const off = { ...decisionSettings, default: 'disabled' as const };
  const on = namespaceOf({ 'tcpcrypt.io/inject': 'enabled' });
  const not = namespaceOf({ 'tcpcrypt.io/inject': 'disabled' });
  assert.equal(decided(podOf()), 'inject');
  assert.equal(decided(podOf(), namespaceOf(), off), 'excluded: default');
  assert.equal(decided(podOf(), on, off), 'inject');
  assert.equal(decided(podOf(), not), 'excluded: disabled');
  assert.equal(decided(labelled('enabled'), not), 'inject');
  assert.equal(decided(labelled('disabled'), on), 'excluded: disabled');
  assert.equal(decided(labelled('yes'), not), 'excluded: disabled', 'a value that is none says nothing');
});

test('tcpcrypt.io/inject as an annotation; the label wins', () => {
  const annotations = { 'tcpcrypt.io/inject': 'disabled' };
  assert.equal(decided(podOf({}, { annotations })), 'excluded: disabled');
  assert.equal(decided(podOf({}, { annotations, labels: { 'tcpcrypt.io/inject': 'enabled' } })), 'inject');
  assert.equal(decided(podOf(), namespaceOf({}, 'shop', annotations)), 'excluded: disabled');
});

test('never in the release namespace, in kube-system, or a mirror of a static pod', () => {
  assert.equal(decided(labelled('enabled'), namespaceOf({}, 'kube-system')), 'excluded: namespace');
  assert.equal(decided(labelled('enabled'), namespaceOf({}, 'tcpcrypt-system')), 'excluded: namespace');
  const mirror = podOf({}, { annotations: { 'kubernetes.io/config.mirror': 'x' } });
  assert.equal(decided(mirror), 'excluded: mirror_pod');
});

test('left alone, each for its reason', () => {
  const architecture = (operator: string, values: string[]) => ({
    affinity: {
      nodeAffinity: {
        requiredDuringSchedulingIgnoredDuringExecution: {
          nodeSelectorTerms: [{ matchExpressions: [{ key: 'kubernetes.io/arch', operator, values }] }],
        },
      },
    },
  });
  const cases: [string, Pod, Namespace?][] = [
    ['host_network', podOf({ hostNetwork: true })],
    ['windows', podOf({ os: { name: 'windows' } })],
    ['windows', podOf({ nodeSelector: { 'kubernetes.io/os': 'windows' } })],
    ['runtime_class', podOf({ runtimeClassName: 'gvisor' })],
    ['runtime_class', podOf({ runtimeClassName: 'kata-qemu' })],
    ['architecture', podOf({ nodeSelector: { 'kubernetes.io/arch': 's390x' } })],
    ['architecture', podOf(architecture('In', ['s390x', 'ppc64le']))],
    ['architecture', podOf(architecture('NotIn', ['amd64', 'arm64']))],
    ['pod_security', podOf(), namespaceOf({ 'pod-security.kubernetes.io/enforce': 'baseline' })],
    ['pod_security', podOf(), namespaceOf({ 'pod-security.kubernetes.io/enforce': 'restricted' })],
    ['other_mesh', podOf({ containers: [{ name: 'web' }, { name: 'istio-proxy' }] })],
    ['other_mesh', podOf({ initContainers: [{ name: 'linkerd-proxy', restartPolicy: 'Always' }] })],
    ['other_mesh', podOf({}, { annotations: { 'linkerd.io/proxy-version': 'stable-2.14' } })],
    ['other_mesh', podOf(), namespaceOf({ 'istio.io/dataplane-mode': 'ambient' })],
    ['name_taken', podOf({ containers: [{ name: 'tcpcrypt' }] })],
  ];
  for (const [reason, pod, namespace] of cases) {
    assert.equal(decided(pod, namespace), `left_alone: ${reason}`, JSON.stringify(pod.spec));
  }
});

test('what only looks like a reason is none', () => {
  const pods = [
    podOf({ hostNetwork: false, runtimeClassName: 'runc', os: { name: 'linux' } }),
    podOf({ nodeSelector: { 'kubernetes.io/arch': 'arm64' } }),
    podOf({ affinity: { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: {} } } }),
    podOf({}, { annotations: { 'consul.hashicorp.com/connect-inject-status': 'pending' } }),
    inject(podOf(), injectionSettings).pod,
  ];
  for (const pod of pods) assert.equal(decided(pod), 'inject', JSON.stringify(pod));
  const opted = podOf({}, { labels: { 'istio.io/dataplane-mode': 'none' } });
  assert.equal(decided(opted, namespaceOf({ 'istio.io/dataplane-mode': 'ambient' })), 'inject');
  assert.equal(
    decided(podOf(), namespaceOf({ 'pod-security.kubernetes.io/enforce': 'privileged' })),
    'inject',
  );
});

test('suspended: only a pod that would be injected', () => {
  const suspended = (pod: Pod) => decide(pod, namespaceOf(), decisionSettings, () => true);
  assert.deepEqual(suspended(podOf()), { kind: 'left_alone', reason: 'suspended' });
  assert.deepEqual(suspended(labelled('disabled')), { kind: 'excluded', reason: 'disabled' });
});
