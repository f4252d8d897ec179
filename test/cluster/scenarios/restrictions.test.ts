/** Pods and namespaces with limits of their own: each pod starts, and is encrypted where that is allowed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { outcomeOf } from '../../kernel/support/outcome.ts';
import { eventually } from '../../kernel/support/processes.ts';
import { useChart } from '../support/chart.ts';
import { pod, TestNamespace, WEB_SERVER } from '../support/pods.ts';
import { deployment } from '../support/services.ts';
import { sharedCluster as cluster, skip } from '../support/shared.ts';
import { Sidecar } from '../support/sidecar.ts';

const context = useChart('restrictions-test', (namespace) =>
  namespace.start([pod({ name: 'server', node: 'node2', command: WEB_SERVER })]),
);

/** Two namespaces of their own for a test, removed after it. */
async function inNamespace(
  name: string,
  objects: readonly object[],
  action: (namespace: TestNamespace) => Promise<void>,
  labels: Readonly<Record<string, string>> = {},
): Promise<void> {
  const namespace = new TestNamespace(cluster, name, labels);
  try {
    await namespace.start(objects);
    await action(namespace);
  } finally {
    namespace.remove();
  }
}

/** That a pod's request to the server is answered, and what its sidecar counted. */
async function fetches(namespace: TestNamespace, name: string): Promise<void> {
  const url = `http://${context.namespace.address('server', 4)}/`;
  const [answer, outcome] = await outcomeOf([new Sidecar(namespace, name)], async () =>
    namespace.fetch(name, url),
  );
  assert.equal(answer, 'server');
  assert.equal(outcome.encrypted, 1);
}

const plainFetch = (namespace: TestNamespace, name: string): void =>
  assert.equal(namespace.fetch(name, `http://${context.namespace.address('server', 4)}/`), 'server');

test('runAsNonRoot, no capabilities, a read-only root file system: encrypted', { skip }, async () => {
  const { namespace } = context;
  const securityContext = {
    runAsNonRoot: true,
    runAsUser: 1000,
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ['ALL'] },
    seccompProfile: { type: 'RuntimeDefault' },
  };
  await namespace.start([
    pod({
      name: 'restricted',
      node: 'node1',
      container: { securityContext },
      spec: { securityContext: { runAsNonRoot: true, runAsUser: 1000, fsGroup: 1000 } },
    }),
  ]);
  await fetches(namespace, 'restricted');
});

test('a read-only /run, with and without the local API', { skip }, async () => {
  const { namespace } = context;
  const container = { volumeMounts: [{ name: 'run', mountPath: '/run', readOnly: true }] };
  // Kubernetes' own mount of the token would fail there.
  const spec = { volumes: [{ name: 'run', emptyDir: {} }], automountServiceAccountToken: false };
  const withApi = pod({ name: 'run-api', node: 'node1', container, spec }) as { metadata: object };
  withApi.metadata = { ...withApi.metadata, annotations: { 'tcpcrypt.io/api': 'enabled' } };
  await namespace.start([pod({ name: 'run-read-only', node: 'node1', container, spec }), withApi]);
  for (const name of ['run-read-only', 'run-api']) await fetches(namespace, name);
});

test('the sidecar has no API token, the application keeps its own', { skip }, async () => {
  const { namespace } = context;
  const folder = '/var/run/secrets/kubernetes.io/serviceaccount';
  assert.match(namespace.exec('server', ['ls', folder]).stdout, /token/);
  const list = `console.log(JSON.stringify(require('fs').readdirSync('${folder}')))`;
  assert.equal(namespace.exec('server/tcpcrypt', ['node', '-e', list]).stdout.trim(), '[]');
});

test('a LimitRange with a default, a minimum and a maximum: encrypted', { skip }, async () => {
  const limits = {
    apiVersion: 'v1',
    kind: 'LimitRange',
    metadata: { name: 'limits' },
    spec: {
      limits: [
        {
          type: 'Container',
          default: { cpu: '500m', memory: '300Mi' },
          defaultRequest: { cpu: '20m', memory: '32Mi' },
          min: { cpu: '5m', memory: '16Mi' },
          max: { cpu: '1', memory: '1Gi' },
        },
      ],
    },
  };
  await inNamespace('limit-range-test', [limits], async (namespace) => {
    await namespace.start([pod({ name: 'client', node: 'node1' })]);
    await fetches(namespace, 'client');
  });
});

const quota = (hard: Readonly<Record<string, string>>): object => ({
  apiVersion: 'v1',
  kind: 'ResourceQuota',
  metadata: { name: 'quota' },
  spec: { hard },
});
const idle = ['sleep', 'infinity'];

test('a ResourceQuota with room for the sidecar: encrypted', { skip }, async () => {
  const resources = { requests: { memory: '32Mi' }, limits: { memory: '64Mi' } };
  await inNamespace(
    'quota-test',
    [quota({ 'requests.memory': '1Gi', 'limits.memory': '1Gi' })],
    async (namespace) => {
      await namespace.start([pod({ name: 'client', node: 'node1', container: { resources } })]);
      await fetches(namespace, 'client');
    },
  );
});

test('a ResourceQuota that refuses the sidecar: injection stops there by itself, and the pod starts', {
  skip,
}, async () => {
  // Ours has no CPU limit, which this quota demands.
  const resources = { requests: { cpu: '10m' }, limits: { cpu: '500m' } };
  const objects = [
    quota({ 'limits.cpu': '2' }),
    deployment({ name: 'app', command: idle, container: { resources }, spec: { nodeName: 'node1' } }),
  ];
  // A name of its own each time: the suspension of an earlier run still holds.
  await inNamespace(`quota-refuses-${Date.now().toString(36)}`, objects, async (namespace) => {
    namespace.rolledOut('app');
    const events = () => namespace.events('TcpcryptInjectionSuspended');
    const [event] = await eventually(() => (events().length > 0 ? events() : undefined), 'the event', 30_000);
    assert.match(event!.message, /must specify limits.cpu/);
    const [name] = namespace.podNames('app');
    plainFetch(namespace, name!);
  });
});

test('Pod Security `baseline`: the pod starts, plain, and an event says why', { skip }, async () => {
  const labels = { 'pod-security.kubernetes.io/enforce': 'baseline' };
  await inNamespace(
    'baseline-test',
    [pod({ name: 'client', node: 'node1' })],
    async (namespace) => {
      plainFetch(namespace, 'client');
      assert.deepEqual(namespace.pod('client').spec.initContainers ?? [], []);
      const events = () => namespace.events('TcpcryptLeftAlone');
      const [event] = await eventually(
        () => (events().length > 0 ? events() : undefined),
        'the event',
        30_000,
      );
      assert.match(event!.message, /pod_security/);
    },
    labels,
  );
});

test('a pod of class Guaranteed keeps its class, and is encrypted', { skip }, async () => {
  const { namespace } = context;
  const resources = { limits: { cpu: '100m', memory: '64Mi' } };
  await namespace.start([pod({ name: 'guaranteed', node: 'node1', container: { resources } })]);
  assert.equal(namespace.pod('guaranteed').status.qosClass, 'Guaranteed');
  await fetches(namespace, 'guaranteed');
});
