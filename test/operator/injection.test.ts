/** The webhook on a real API server: what it stores of a pod, and what it refuses. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { eventually } from '../kernel/support/processes.ts';
import { IMAGE, type Json, type Lab, NAMESPACE, podManifest, type Replica, skip, startLab } from './lab.ts';

let lab: Lab;
let replica: Replica;

before(
  async () => {
    if (skip) return;
    lab = await startLab();
    replica = await lab.operator();
    await lab.callTo(replica);
    await lab.kubectl('create', 'namespace', 'shop');
    await caBundleIsThere();
  },
  { timeout: 600_000 },
);
after(async () => {
  await lab?.[Symbol.asyncDispose]();
});

async function caBundleIsThere(): Promise<void> {
  await eventually(
    async () => {
      const { webhooks } = await lab.get('mutatingwebhookconfiguration', 'tcpcrypt');
      return webhooks[0].clientConfig.caBundle !== undefined;
    },
    'the caBundle',
    20_000,
  );
}

const names = (list: Json[] = []): string[] => list.map(({ name }) => name);
const count = async (line: string): Promise<number> => {
  const found = (await replica.metrics()).split('\n').find((each) => each.startsWith(line));
  return Number(found?.split(' ').at(-1) ?? 0);
};

test('a pod as the API server stores it', { skip }, async () => {
  const pod = await lab.create(
    podManifest('web', 'shop', { initContainers: [{ name: 'setup', image: 'setup' }] }),
  );
  assert.deepEqual(names(pod.spec.initContainers), ['tcpcrypt', 'setup']);
  const [sidecar] = pod.spec.initContainers;
  assert.equal(sidecar.image, IMAGE);
  assert.equal(sidecar.restartPolicy, 'Always');
  assert.deepEqual(sidecar.securityContext.capabilities, { add: ['NET_ADMIN', 'NET_RAW'], drop: ['ALL'] });
  assert.equal(pod.metadata.annotations['tcpcrypt.io/status'], 'injected');
  assert.deepEqual(names(pod.spec.volumes), ['tcpcrypt-state', 'tcpcrypt-pod', 'tcpcrypt-no-token']);
});

test('what is stored is what we sent: sent again it changes nothing', { skip }, async () => {
  const stored = await lab.create(podManifest('first', 'shop'));
  const { metadata, spec } = stored;
  const copy = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'copy', namespace: 'shop', annotations: metadata.annotations },
    spec,
  };
  const before = await count('tcpcrypt_operator_injections_total{result="injected"');
  assert.deepEqual((await lab.create(copy)).spec, spec);
  assert.equal(
    await count('tcpcrypt_operator_injections_total{result="injected"'),
    before,
    'not counted again',
  );
});

test('a dry run shows the sidecar and leaves no trace', { skip }, async () => {
  const before = await replica.metrics();
  const pod = await lab.create(podManifest('dry', 'shop'), '--dry-run=server');
  assert.deepEqual(names(pod.spec.initContainers), ['tcpcrypt']);
  const counters = (text: string) =>
    text.split('\n').filter((line) => line.startsWith('tcpcrypt_operator_injections'));
  assert.deepEqual(counters(await replica.metrics()), counters(before));
  await assert.rejects(lab.get('pod', 'dry', '-n', 'shop'), /not found/);
});

test('tcpcrypt.io/inject, kube-system and our own namespace', { skip }, async () => {
  const off = { labels: { 'tcpcrypt.io/inject': 'disabled' } };
  assert.equal((await lab.create(podManifest('off', 'shop', {}, off))).spec.initContainers, undefined);
  for (const namespace of ['kube-system', NAMESPACE]) {
    assert.equal((await lab.create(podManifest('web', namespace))).spec.initContainers, undefined, namespace);
  }
  await lab.kubectl('create', 'namespace', 'quiet');
  await lab.kubectl('label', 'namespace', 'quiet', 'tcpcrypt.io/inject=disabled');
  await eventually(
    async () => {
      const pod = await lab.create(podManifest('web', 'quiet'), '--dry-run=server');
      return pod.spec.initContainers === undefined;
    },
    'the label known',
    10_000,
  );
  const on = { labels: { 'tcpcrypt.io/inject': 'enabled' } };
  const pod = await lab.create(podManifest('on', 'quiet', {}, on));
  assert.deepEqual(names(pod.spec.initContainers), ['tcpcrypt']);
});

test('a pod in a namespace that was made this moment', { skip }, async () => {
  const labels = { 'tcpcrypt.io/inject': 'disabled' };
  await lab.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'new', labels } });
  const pod = await lab.create(podManifest('web', 'new'));
  assert.equal(pod.spec.initContainers, undefined);
});

test('left alone: an event, once, and a metric', { skip }, async () => {
  await lab.create(podManifest('host', 'shop', { hostNetwork: true }));
  const events = () => lab.get('events', '-n', 'shop', '--field-selector', 'reason=TcpcryptLeftAlone');
  await eventually(async () => (await events()).items.length > 0, 'the event', 10_000);
  await lab.kubectl('label', 'pod', 'host', '-n', 'shop', 'a=b');
  const { items } = await events();
  assert.equal(items.length, 1);
  assert.equal(items[0].involvedObject.name, 'host');
  assert.match(items[0].message, /host_network.*network of its node/);
  assert.equal(
    await count('tcpcrypt_operator_injections_total{result="left_alone",reason="host_network"}'),
    1,
  );
  assert.equal(await count('tcpcrypt_operator_pods_left_alone{reason="host_network"}'), 1);
});

test('a Pod Security level that forbids NET_ADMIN: the pod starts, without', { skip }, async () => {
  for (const level of ['baseline', 'restricted']) {
    await lab.create({
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name: level, labels: { 'pod-security.kubernetes.io/enforce': level } },
    });
    const securityContext = {
      allowPrivilegeEscalation: false,
      runAsNonRoot: true,
      runAsUser: 1000,
      capabilities: { drop: ['ALL'] },
      seccompProfile: { type: 'RuntimeDefault' },
    };
    const pod = await lab.create(
      podManifest('web', level, { containers: [{ name: 'web', image: 'web', securityContext }] }),
    );
    assert.equal(pod.spec.initContainers, undefined);
  }
  assert.equal(
    await count('tcpcrypt_operator_injections_total{result="left_alone",reason="pod_security"}'),
    2,
  );
});

test('runAsNonRoot and other settings of the pod do not reach our container', { skip }, async () => {
  const securityContext = { runAsNonRoot: true, runAsUser: 1000, runAsGroup: 1000, fsGroup: 1000 };
  const pod = await lab.create(podManifest('user', 'shop', { securityContext }));
  assert.equal(pod.spec.initContainers[0].securityContext.runAsUser, 0);
  assert.equal(pod.spec.initContainers[0].securityContext.runAsNonRoot, false);
});

test('a LimitRange with defaults, a minimum and a maximum: the pod is accepted', { skip }, async () => {
  await lab.kubectl('create', 'namespace', 'limited');
  await lab.create({
    apiVersion: 'v1',
    kind: 'LimitRange',
    metadata: { name: 'limits', namespace: 'limited' },
    spec: {
      limits: [
        {
          type: 'Container',
          default: { cpu: '300m', memory: '1Gi' },
          defaultRequest: { cpu: '100m', memory: '128Mi' },
          max: { cpu: '2', memory: '4Gi' },
        },
      ],
    },
  });
  const pod = await lab.create(podManifest('web', 'limited'));
  // A maximum demands a limit of everybody: ours has the LimitRange's, and it stays when we are called again.
  assert.deepEqual(pod.spec.initContainers[0].resources, {
    requests: { cpu: '10m', memory: '96Mi' },
    limits: { cpu: '300m', memory: '256Mi' },
  });
});

test('classes of service: Guaranteed stays Guaranteed', { skip }, async () => {
  const resources = { limits: { cpu: '1', memory: '1Gi' } };
  const pod = await lab.create(
    podManifest('guaranteed', 'shop', { containers: [{ name: 'a', image: 'a', resources }] }),
  );
  assert.equal(pod.status.qosClass, 'Guaranteed');
  assert.deepEqual(pod.spec.initContainers[0].resources.limits, { cpu: '500m', memory: '256Mi' });
  const whole = await lab.create(podManifest('whole', 'shop', { resources }));
  assert.equal(whole.status.qosClass, 'Guaranteed');
  assert.deepEqual(whole.spec.initContainers[0].resources, {});
});

test('enforced: an uninjected pod is refused, with the reason; an injected one passes', {
  skip,
}, async () => {
  await lab.create({
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name: 'vault', labels: { 'tcpcrypt.io/enforce': 'strict' } },
  });
  const pod = await lab.create(podManifest('web', 'vault'));
  assert.deepEqual(names(pod.spec.initContainers), ['tcpcrypt']);
  await assert.rejects(
    lab.create(podManifest('host', 'vault', { hostNetwork: true })),
    /ERR_TCPCRYPT_NOT_INJECTED.*network of its node/,
  );
});

test('without an operator: pods are made as ever, missing ones are reported, enforced ones refused', {
  skip,
}, async () => {
  await replica.kill();
  const pod = await lab.create(podManifest('alone', 'shop'));
  assert.equal(pod.spec.initContainers, undefined);
  await assert.rejects(lab.create(podManifest('web2', 'vault')), /failed calling webhook/);
  replica = await lab.operator();
  const missing = () => lab.get('events', '-n', 'shop', '--field-selector', 'reason=TcpcryptNotInjected');
  // The lease of the one that was killed has to run out first.
  await eventually(async () => (await missing()).items.length > 0, 'the report', 60_000);
  assert.equal((await missing()).items[0].involvedObject.name, 'alone');
  assert.equal(await count('tcpcrypt_operator_pods{namespace="shop",state="missing"}'), 1);
});
