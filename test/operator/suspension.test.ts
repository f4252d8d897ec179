/** Injection that stops by itself, with refusals that the API server really makes; the controllers' part is played. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { eventually, sleep } from '../kernel/support/processes.ts';
import { type Json, type Lab, NAMESPACE, podManifest, type Replica, skip, startLab } from './lab.ts';

let lab: Lab;
let replicas: Replica[];
/** As in the operator: a refusal so soon after a trial began says nothing. */
const PROPAGATION_MS = 3000;

before(
  async () => {
    if (skip) return;
    lab = await startLab();
    replicas = [await lab.operator(), await lab.operator()];
    // The one that does not lead answers: all replicas must know.
    const metrics = await replicas[0]!.metrics();
    await lab.callTo(/^tcpcrypt_operator_leader 1$/m.test(metrics) ? replicas[1]! : replicas[0]!);
    await eventually(
      async () =>
        (await lab.get('mutatingwebhookconfiguration', 'tcpcrypt')).webhooks[0].clientConfig.caBundle,
      'the caBundle',
      20_000,
    );
  },
  { timeout: 600_000 },
);
after(async () => {
  await lab?.[Symbol.asyncDispose]();
});

/** A namespace with a quota that a pod of 100m fits into, and our container beside it does not. */
async function tightNamespace(name: string, cpu: string): Promise<void> {
  await lab.kubectl('create', 'namespace', name);
  const hard = { 'requests.cpu': cpu };
  const quota = {
    apiVersion: 'v1',
    kind: 'ResourceQuota',
    metadata: { name: 'tight', namespace: name },
    spec: { hard },
  };
  await lab.create(quota);
  // What the quota controller would write.
  const status = JSON.stringify({ status: { hard, used: { 'requests.cpu': '0' } } });
  await lab.kubectl(
    'patch',
    'resourcequota',
    'tight',
    '-n',
    name,
    '--subresource=status',
    '--type=merge',
    '-p',
    status,
  );
}

interface Owner {
  readonly namespace: string;
  readonly uid: string;
  events: number;
}

async function replicaSet(namespace: string): Promise<Owner> {
  const template = {
    metadata: { labels: { app: 'web' } },
    spec: { containers: [{ name: 'web', image: 'web' }] },
  };
  const { metadata } = await lab.create({
    apiVersion: 'apps/v1',
    kind: 'ReplicaSet',
    metadata: { name: 'web', namespace },
    spec: { replicas: 1, selector: { matchLabels: { app: 'web' } }, template },
  });
  return { namespace, uid: metadata.uid, events: 0 };
}

/** What the ReplicaSet controller does: tries to make a pod, and says so in an event where it is refused. */
async function tryToMake(owner: Owner, spec: Json = {}): Promise<Json | undefined> {
  const { namespace, uid } = owner;
  const about = { apiVersion: 'apps/v1', kind: 'ReplicaSet', name: 'web', uid };
  const resources = { requests: { cpu: '100m' } };
  const pod = podManifest(
    'ignored',
    namespace,
    { containers: [{ name: 'web', image: 'web', resources }], ...spec },
    {
      name: undefined,
      generateName: 'web-',
      ownerReferences: [{ ...about, controller: true, blockOwnerDeletion: true }],
    },
  );
  try {
    return await lab.create(pod);
  } catch (error) {
    owner.events++;
    await lab.create({
      apiVersion: 'v1',
      kind: 'Event',
      metadata: { name: `web.${owner.events}`, namespace },
      involvedObject: { ...about, namespace },
      reason: 'FailedCreate',
      type: 'Warning',
      message: `Error creating: ${(error as Error).message}`,
      firstTimestamp: new Date().toISOString(),
      lastTimestamp: new Date().toISOString(),
      source: { component: 'replicaset-controller' },
    });
    return undefined;
  }
}

const entry = async (namespace: string): Promise<Json> => {
  const { data } = await lab.get('configmap', 'tcpcrypt-suspensions', '-n', NAMESPACE);
  return data?.[namespace] && JSON.parse(data[namespace]);
};
const phaseBecomes = (namespace: string, phase: string) =>
  eventually(async () => (await entry(namespace))?.phase === phase, `${namespace} ${phase}`, 15_000);
const sidecars = (pod: Json): number => (pod.spec.initContainers ?? []).length;

test('a quota that our container exceeds: the pod is made without, with event and metric', {
  skip,
}, async () => {
  await tightNamespace('tight', '105m');
  const owner = await replicaSet('tight');
  assert.equal(await tryToMake(owner), undefined, 'refused with our container');
  await phaseBecomes('tight', 'trial');
  const pod = await eventually(() => tryToMake(owner), 'a pod', 15_000);
  assert.equal(sidecars(pod), 0);
  await phaseBecomes('tight', 'suspended');
  const events = () =>
    lab.get('events', '-n', 'tight', '--field-selector', 'reason=TcpcryptInjectionSuspended');
  await eventually(async () => (await events()).items.length === 1, 'the event', 10_000);
  const [{ involvedObject, message }] = (await events()).items;
  assert.equal(involvedObject.uid, owner.uid);
  assert.match(message, /exceeded quota/);
  const all = await Promise.all(replicas.map((replica) => replica.metrics()));
  for (const text of all) assert.match(text, /^tcpcrypt_operator_suspended_namespaces 1$/m);
  // Others in the namespace are made without as well: 105m are not enough for a sidecar more.
  const resources = { requests: { cpu: '1m' } };
  const other = podManifest('other', 'tight', { containers: [{ name: 'web', image: 'web', resources }] });
  assert.equal(sidecars(await lab.create(other)), 0);
});

test('a quota that is full anyway: injection goes on', { skip }, async () => {
  await tightNamespace('full', '50m');
  const owner = await replicaSet('full');
  assert.equal(await tryToMake(owner), undefined);
  await phaseBecomes('full', 'trial');
  await sleep(PROPAGATION_MS + 1000);
  assert.equal(await tryToMake(owner), undefined, 'refused without our container as well');
  await phaseBecomes('full', 'not_ours');
  const roomy = JSON.stringify({ status: { hard: { 'requests.cpu': '1' } } });
  await lab.kubectl(
    'patch',
    'resourcequota',
    'tight',
    '-n',
    'full',
    '--subresource=status',
    '--type=merge',
    '-p',
    roomy,
  );
  const pod = await eventually(() => tryToMake(owner), 'a pod', 15_000);
  assert.equal(sidecars(pod), 1);
});

test('a policy engine that forbids NET_ADMIN: the same', { skip }, async () => {
  await lab.kubectl('create', 'namespace', 'engine');
  // The API server has a policy engine of its own.
  await lab.create({
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: 'ValidatingAdmissionPolicy',
    metadata: { name: 'no-net-admin' },
    spec: {
      matchConstraints: {
        resourceRules: [
          { apiGroups: [''], apiVersions: ['v1'], operations: ['CREATE'], resources: ['pods'] },
        ],
        namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'engine' } },
      },
      validations: [
        {
          expression:
            "!has(object.spec.initContainers) || object.spec.initContainers.all(c, !('NET_ADMIN' in c.securityContext.capabilities.add))",
          message: 'NET_ADMIN is forbidden here',
        },
      ],
    },
  });
  await lab.create({
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: 'ValidatingAdmissionPolicyBinding',
    metadata: { name: 'no-net-admin' },
    spec: { policyName: 'no-net-admin', validationActions: ['Deny'] },
  });
  const owner = await replicaSet('engine');
  await eventually(async () => (await tryToMake(owner)) === undefined, 'a refusal', 15_000);
  await phaseBecomes('engine', 'trial');
  const pod = await eventually(() => tryToMake(owner), 'a pod', 15_000);
  assert.equal(sidecars(pod), 0);
  await phaseBecomes('engine', 'suspended');
});
