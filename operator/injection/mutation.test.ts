import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { hasStrangersNames, inject, isInjected, startsBehindSidecar, withoutSidecar } from './mutation.ts';
import { podPatch } from './patch.ts';
import type { Container, Pod } from './pod.ts';
import { anyPod, injectionSettings, podOf } from './testing.ts';

const injected = (pod: Pod, settings = injectionSettings) => inject(pod, settings).pod;
const sidecarOf = (pod: Pod) => injected(pod).spec.initContainers?.[0] as Container & Record<string, unknown>;

test('the container, field by field', () => {
  assert.deepEqual(sidecarOf(podOf()), {
    name: 'tcpcrypt',
    image: 'registry.example/tcpcrypt@sha256:0123',
    imagePullPolicy: 'IfNotPresent',
    restartPolicy: 'Always',
    command: ['tcpcrypt-node', 'supervise', '--', 'tcpcrypt', 'run'],
    args: [
      '--state-dir=/run/tcpcrypt-state',
      '--ensure-rules',
      '--control-socket=/run/tcpcrypt-state/control.sock',
      '--api-socket=none',
      '--metrics-listen=[::]:19090',
      '--grace=28',
      '--initial-policy={"mode":"Opportunistic"}',
      '--node-cidr=$(TCPCRYPT_HOST_IP)',
      '--cluster-cidr=10.0.0.0/8',
    ],
    env: [
      { name: 'TCPCRYPT_HOST_IP', valueFrom: { fieldRef: { apiVersion: 'v1', fieldPath: 'status.hostIP' } } },
      { name: 'XTABLES_LOCKFILE', value: '/run/tcpcrypt-state/xtables.lock' },
    ],
    ports: [{ name: 'tcpcrypt-prom', containerPort: 19090, protocol: 'TCP' }],
    resources: { requests: { cpu: '10m', memory: '96Mi' }, limits: { memory: '256Mi' } },
    startupProbe: {
      exec: { command: ['tcpcrypt-node', 'probe', '--control-socket', '/run/tcpcrypt-state/control.sock'] },
      timeoutSeconds: 15,
      periodSeconds: 1,
      successThreshold: 1,
      failureThreshold: 40,
    },
    securityContext: {
      capabilities: { add: ['NET_ADMIN', 'NET_RAW'], drop: ['ALL'] },
      privileged: false,
      runAsUser: 0,
      runAsGroup: 0,
      runAsNonRoot: false,
      readOnlyRootFilesystem: true,
      allowPrivilegeEscalation: false,
      seccompProfile: { type: 'RuntimeDefault' },
    },
    terminationMessagePath: '/dev/termination-log',
    terminationMessagePolicy: 'FallbackToLogsOnError',
    volumeMounts: [
      { name: 'tcpcrypt-state', mountPath: '/run/tcpcrypt-state' },
      { name: 'tcpcrypt-pod', mountPath: '/run/tcpcrypt-pod', readOnly: true },
      {
        name: 'tcpcrypt-no-token',
        mountPath: '/var/run/secrets/kubernetes.io/serviceaccount',
        readOnly: true,
      },
    ],
  });
});

test('volumes: state in memory, the labels, an empty one over the token; the annotation', () => {
  const pod = injected(podOf({ volumes: [{ name: 'data' }] }));
  assert.deepEqual(pod.spec.volumes, [
    { name: 'data' },
    { name: 'tcpcrypt-state', emptyDir: { medium: 'Memory', sizeLimit: '64Mi' } },
    {
      name: 'tcpcrypt-pod',
      downwardAPI: {
        defaultMode: 0o444,
        items: [{ path: 'labels', fieldRef: { apiVersion: 'v1', fieldPath: 'metadata.labels' } }],
      },
    },
    { name: 'tcpcrypt-no-token', emptyDir: { medium: 'Memory', sizeLimit: '64Ki' } },
  ]);
  assert.deepEqual(pod.metadata.annotations, { 'tcpcrypt.io/status': 'injected' });
});

test('first of the init containers, so that theirs are protected as well', () => {
  const pod = injected(podOf({ initContainers: [{ name: 'setup' }] }));
  assert.deepEqual(
    pod.spec.initContainers?.map(({ name }) => name),
    ['tcpcrypt', 'setup'],
  );
  // Another injector put its own in front: ours goes back to the front.
  const [ours, setup] = pod.spec.initContainers!;
  const other = { ...pod, spec: { ...pod.spec, initContainers: [{ name: 'vault' }, ours!, setup!] } };
  assert.deepEqual(
    injected(other).spec.initContainers?.map(({ name }) => name),
    ['tcpcrypt', 'vault', 'setup'],
  );
});

test('the API volume only where it is asked for, in every container of the applications', () => {
  const pod = podOf(
    {
      initContainers: [{ name: 'setup' }],
      containers: [
        { name: 'web', volumeMounts: [{ name: 'data', mountPath: '/data' }] },
        { name: 'own', volumeMounts: [{ name: 'data', mountPath: '/run/tcpcrypt' }] },
      ],
    },
    { annotations: { 'tcpcrypt.io/api': 'enabled' } },
  );
  const { spec } = injected(pod);
  const api = { name: 'tcpcrypt-api', mountPath: '/run/tcpcrypt', readOnly: true };
  assert.deepEqual(spec.containers[0]?.volumeMounts, [{ name: 'data', mountPath: '/data' }, api]);
  assert.deepEqual(spec.containers[1]?.volumeMounts, [{ name: 'data', mountPath: '/run/tcpcrypt' }]);
  assert.deepEqual(spec.initContainers?.[1]?.volumeMounts, [api]);
  assert.deepEqual(spec.initContainers?.[0]?.volumeMounts?.at(-1), {
    name: 'tcpcrypt-api',
    mountPath: '/run/tcpcrypt',
  });
  assert.ok(spec.initContainers?.[0]?.args?.includes('--api-socket=/run/tcpcrypt/api.sock'));
  assert.ok(spec.volumes?.some(({ name }) => name === 'tcpcrypt-api'));
  const off = { ...pod, metadata: { annotations: { 'tcpcrypt.io/api': 'true' } } };
  assert.ok(!injected(off).spec.volumes?.some(({ name }) => name === 'tcpcrypt-api'));
});

test('no API volume below a read-only one: the runtime could not make its folder, and the pod would not start', () => {
  for (const mountPath of ['/run', '/run/', '/var/run', '//run']) {
    const mounts = (readOnly: boolean) => [{ name: 'run', mountPath, readOnly }];
    const pod = podOf(
      {
        containers: [
          { name: 'read-only', volumeMounts: mounts(true) },
          { name: 'writable', volumeMounts: mounts(false) },
        ],
      },
      { annotations: { 'tcpcrypt.io/api': 'enabled' } },
    );
    const [readOnly, writable] = injected(pod).spec.containers;
    assert.deepEqual(readOnly?.volumeMounts, mounts(true), mountPath);
    assert.equal(writable?.volumeMounts?.length, 2, mountPath);
  }
});

test('Strict: the probe and the rules are told', () => {
  const strict = injected(podOf(), { ...injectionSettings, strict: true }).spec
    .initContainers?.[0] as Container;
  assert.ok(strict.args?.includes('--strict'));
  assert.ok(JSON.stringify(strict).includes('"--strict"]},"timeoutSeconds"'));
});

test("the rewriter ends before the pod's grace period does", () => {
  const args = (terminationGracePeriodSeconds: number) =>
    sidecarOf(podOf({ terminationGracePeriodSeconds })).args?.find((arg) => arg.startsWith('--grace'));
  assert.equal(args(600), '--grace=598');
  assert.equal(args(0), '--grace=1');
});

test('a pod of class Guaranteed keeps its class', () => {
  const limits = { cpu: '1', memory: '1Gi' };
  const guaranteed = podOf({
    containers: [
      { name: 'a', resources: { limits } },
      { name: 'b', resources: { limits, requests: { cpu: '1000m', memory: '1024Mi' } } },
    ],
  });
  const ours = { cpu: '500m', memory: '256Mi' };
  assert.deepEqual(sidecarOf(guaranteed).resources, { requests: ours, limits: ours });
  const burstable = podOf({
    containers: [{ name: 'a', resources: { limits, requests: { cpu: '500m', memory: '1Gi' } } }],
  });
  assert.deepEqual(sidecarOf(burstable).resources?.limits, { memory: '256Mi' });
});

test('resources by annotation; what is no quantity is a warning and nothing else', () => {
  const annotations = {
    'tcpcrypt.io/cpu-limit': '2',
    'tcpcrypt.io/memory-request': '512Mi',
    'tcpcrypt.io/cpu-request': 'much',
  };
  const { pod, warnings } = inject(podOf({}, { annotations }), injectionSettings);
  assert.deepEqual(pod.spec.initContainers?.[0]?.resources, {
    requests: { cpu: '10m', memory: '512Mi' },
    // Raised: a limit below the request would be refused.
    limits: { memory: '512Mi', cpu: '2' },
  });
  assert.deepEqual(warnings, ['tcpcrypt.io/cpu-request: "much" is not a quantity']);
});

test('a pod with resources as a whole: ours asks for nothing that could exceed them', () => {
  const pod = podOf({ resources: { limits: { cpu: '1', memory: '1Gi' } } });
  assert.deepEqual(sidecarOf(pod).resources, {});
});

test('what a LimitRange added to our container stays on a second call', () => {
  const pod = injected(podOf());
  const [ours] = pod.spec.initContainers!;
  const limited = { ...ours!, resources: { ...ours!.resources, limits: { memory: '256Mi', cpu: '200m' } } };
  const again = injected({ ...pod, spec: { ...pod.spec, initContainers: [limited] } });
  assert.deepEqual(again.spec.initContainers?.[0]?.resources?.limits, { memory: '256Mi', cpu: '200m' });
});

test('injecting twice is injecting once, for any pod', () => {
  fc.assert(
    fc.property(anyPod, (pod) => {
      fc.pre(!hasStrangersNames(pod));
      const once = injected(pod);
      assert.deepEqual(injected(once), once);
      assert.deepEqual(podPatch(once, injected(once)), []);
    }),
  );
});

test('taking out gives back what was there, for any pod without our marks', () => {
  fc.assert(
    fc.property(anyPod, (pod) => {
      fc.pre(pod.metadata.annotations?.['tcpcrypt.io/status'] === undefined && !hasStrangersNames(pod));
      const back = withoutSidecar(injected(pod));
      assert.deepEqual(essence(back), essence(pod));
      assert.equal(isInjected(back), false);
    }),
  );
});

/** Without lists and maps that are empty: to Kubernetes they are the same as none. */
function essence(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.length === 0 ? undefined : value.map(essence);
  const members = Object.entries(value)
    .map(([key, each]) => [key, essence(each)] as const)
    .filter(([, each]) => each !== undefined);
  return members.length === 0 ? undefined : Object.fromEntries(members);
}

test('a copy of an injected pod, taken from the API server, is injected anew', () => {
  const old = injected(podOf(), { ...injectionSettings, image: 'registry.example/tcpcrypt:0.0.1' });
  assert.deepEqual(injected(old), injected(podOf()));
});

test("somebody else's names are theirs", () => {
  assert.ok(hasStrangersNames(podOf({ containers: [{ name: 'tcpcrypt' }] })));
  assert.ok(hasStrangersNames(podOf({ volumes: [{ name: 'tcpcrypt-state' }] })));
  assert.ok(!hasStrangersNames(injected(podOf())));
});

test('enforcing: only our sidecar, in front, counts', () => {
  const pod = injected(podOf({ initContainers: [{ name: 'setup' }] }));
  const [ours, setup] = pod.spec.initContainers!;
  const behind = (initContainers: readonly Container[]) =>
    startsBehindSidecar({ ...pod, spec: { ...pod.spec, initContainers } }, injectionSettings);
  assert.ok(behind([ours!, setup!]));
  assert.ok(behind([{ ...ours!, image: 'registry.example/tcpcrypt:0.0.9' }]), 'another version');
  assert.ok(!behind([setup!, ours!]), 'not in front');
  assert.ok(!behind([{ ...ours!, image: 'registry.example/other@sha256:0123' }]), 'another image');
  assert.ok(!behind([{ ...ours!, command: ['true'] }]), 'another command');
  const { restartPolicy: _, ...once } = ours!;
  assert.ok(!behind([once]), 'not a sidecar');
  assert.ok(!startsBehindSidecar(podOf(), injectionSettings));
});
