import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readPod } from './pod.ts';
import { podOf } from './testing.ts';

const problemOf = (value: unknown): string | undefined => {
  const read = readPod(value);
  return 'problem' in read ? read.problem : undefined;
};

test('what Go writes for an empty list or map is none', () => {
  const spec = { initContainers: null, volumes: null, nodeSelector: null, affinity: null, os: null };
  assert.equal(problemOf({ metadata: null, spec: { ...podOf().spec, ...spec } }), undefined);
  assert.equal(problemOf({ metadata: { labels: null, annotations: null }, spec: podOf().spec }), undefined);
  assert.deepEqual(readPod({ spec: podOf().spec }), { metadata: {}, spec: podOf().spec });
});

test('every part that injection looks at is checked', () => {
  const terms = (nodeSelectorTerms: unknown) => ({
    affinity: { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms } } },
  });
  const container = (part: object) => ({ containers: [{ name: 'web', ...part }] });
  const wrong: [string, object][] = [
    ['containers', { containers: {} }],
    ['containers', { containers: [null] }],
    ['containers', container({ name: 1 })],
    ['containers', container({ image: {} })],
    ['containers', container({ command: 'sh' })],
    ['containers', container({ restartPolicy: [] })],
    ['containers', container({ resources: { limits: [] } })],
    ['containers', container({ resources: { requests: { cpu: {} } } })],
    ['containers', container({ volumeMounts: [{ name: 'a' }] })],
    ['containers', { containers: Array.from({ length: 1001 }, () => ({ name: 'a' })) }],
    ['initContainers', { initContainers: [{}] }],
    ['volumes', { volumes: [{}] }],
    ['hostNetwork', { hostNetwork: 'yes' }],
    ['runtimeClassName', { runtimeClassName: 1 }],
    ['os', { os: 'linux' }],
    ['nodeSelector', { nodeSelector: { a: 1 } }],
    ['affinity', { affinity: { nodeAffinity: [] } }],
    ['affinity', terms({})],
    ['affinity', terms([null])],
    ['affinity', terms([{ matchExpressions: [{ key: 'a' }] }])],
    ['affinity', terms([{ matchExpressions: [{ key: 'a', operator: 'In', values: 'x' }] }])],
    ['resources', { resources: { limits: 1 } }],
    ['terminationGracePeriodSeconds', { terminationGracePeriodSeconds: 1.5 }],
  ];
  for (const [field, spec] of wrong) {
    const value = { metadata: {}, spec: { ...podOf().spec, ...spec } };
    assert.equal(
      problemOf(value),
      `spec.${field} is not what the API defines`,
      JSON.stringify(spec).slice(0, 80),
    );
  }
  for (const [field, value] of Object.entries({
    name: 1,
    labels: { a: 1 },
    annotations: [],
    ownerReferences: [{}],
  })) {
    const pod = { metadata: { [field]: value }, spec: podOf().spec };
    assert.equal(problemOf(pod), `metadata.${field} is not what the API defines`);
  }
});
