/** Certificate, leader and policies over time, on a real API server, with the rights of the service account. */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { after, before, test } from 'node:test';
import { eventually, sleep } from '../kernel/support/processes.ts';
import { type Json, type Lab, NAMESPACE, podManifest, type Replica, skip, startLab } from './lab.ts';

let lab: Lab;
let replicas: Replica[];
/** Renewed when a third is left. */
const LIFETIME_S = 40;

before(
  async () => {
    if (skip) return;
    lab = await startLab();
    const change = { webhook: { certificateLifetime: `${LIFETIME_S}s` } };
    replicas = [await lab.operator(change), await lab.operator(change)];
    await lab.kubectl('create', 'namespace', 'shop');
  },
  { timeout: 600_000 },
);
after(async () => {
  await lab?.[Symbol.asyncDispose]();
});

const leads = async (replica: Replica): Promise<boolean> =>
  /^tcpcrypt_operator_leader 1$/m.test(await replica.metrics().catch(() => ''));
const bundle = async (): Promise<string> => {
  const { webhooks } = await lab.get('mutatingwebhookconfiguration', 'tcpcrypt');
  return webhooks[0].clientConfig.caBundle ?? '';
};
const injects = async (): Promise<boolean> => {
  const pod = await lab.create(podManifest('web', 'shop'), '--dry-run=server');
  return pod.spec.initContainers?.[0]?.name === 'tcpcrypt';
};

test('of two replicas one leads', { skip }, async () => {
  const leading = await Promise.all(replicas.map(leads));
  assert.deepEqual(leading.toSorted(), [false, true]);
});

test('the caBundle is in both configurations, owned by the operator, and comes back', { skip }, async () => {
  await lab.callTo(replicas[0]!);
  for (const kind of ['mutatingwebhookconfiguration', 'validatingwebhookconfiguration']) {
    const caBundle = async (): Promise<string> =>
      (await lab.get(kind, 'tcpcrypt')).webhooks[0].clientConfig.caBundle ?? '';
    await eventually(caBundle, 'the caBundle', 15_000);
    const { metadata } = await lab.get(kind, 'tcpcrypt', '--show-managed-fields');
    const managers = metadata.managedFields.filter((each: Json) =>
      JSON.stringify(each).includes('f:caBundle'),
    );
    assert.deepEqual(
      managers.map((each: Json) => each.manager),
      ['tcpcrypt-operator'],
    );
    const remove = JSON.stringify([{ op: 'remove', path: '/webhooks/0/clientConfig/caBundle' }]);
    await lab.kubectl('patch', kind, 'tcpcrypt', '--type=json', '-p', remove);
    await eventually(caBundle, 'the caBundle again', 15_000);
  }
  await eventually(injects, 'a pod injected', 15_000);
});

test('certificates are renewed over and over, and every pod is injected meanwhile', { skip }, async () => {
  const seen = new Set<string>();
  const untilMs = performance.now() + LIFETIME_S * 2.2 * 1000;
  let pods = 0;
  while (performance.now() < untilMs) {
    assert.ok(await injects(), `after ${pods} pods`);
    pods++;
    const { data } = await lab.get('secret', 'tcpcrypt-webhook', '-n', NAMESPACE);
    seen.add(new X509Certificate(Buffer.from(data['tls.crt'], 'base64')).serialNumber);
    await sleep(300);
  }
  assert.ok(seen.size >= 3, `${seen.size} certificates`);
  const count =
    Buffer.from(await bundle(), 'base64')
      .toString()
      .split('BEGIN').length - 1;
  assert.ok(count <= 2, `${count} certificates are trusted`);
});

test('a namespace gets its rendered policy, mended when changed, removed with it', { skip }, async () => {
  const rendered = () => lab.get('configmap', 'tcpcrypt-policy-shop', '-n', NAMESPACE);
  const policies = async () => JSON.parse((await rendered()).data['policies.json']);
  await eventually(() => rendered().catch(() => undefined), 'the policy', 15_000);
  const [{ podSelector, policy }] = await policies();
  assert.deepEqual(podSelector, {});
  assert.equal(policy.mode, 'Opportunistic');
  assert.deepEqual(policy.rules.at(-1), { direction: 'Outbound', mode: 'Disabled' });
  const owners = (await rendered()).metadata.ownerReferences;
  assert.equal(owners[0].name, 'tcpcrypt-operator', 'it goes with the release');
  const change = JSON.stringify({ data: { 'policies.json': '[]' } });
  await lab.kubectl('patch', 'configmap', 'tcpcrypt-policy-shop', '-n', NAMESPACE, '-p', change);
  await eventually(async () => (await policies()).length === 1, 'the policy mended', 15_000);
  await lab.kubectl('delete', 'configmap', 'tcpcrypt-policy-shop', '-n', NAMESPACE);
  await eventually(() => rendered().catch(() => undefined), 'the policy again', 15_000);
  for (const name of ['kube-system', NAMESPACE]) {
    await assert.rejects(lab.get('configmap', `tcpcrypt-policy-${name}`, '-n', NAMESPACE), /not found/);
  }
});

test('the leader stops: it gives the lease back, and the other leads soon', { skip }, async () => {
  const [first, second] = (await leads(replicas[0]!))
    ? [replicas[0]!, replicas[1]!]
    : [replicas[1]!, replicas[0]!];
  await first.stop();
  await eventually(() => leads(second), 'the other leads', 10_000);
  const { spec } = await lab.get('lease', 'tcpcrypt-operator', '-n', NAMESPACE);
  assert.equal(spec.holderIdentity, second.identity);
  await lab.kubectl('create', 'namespace', 'later');
  await eventually(
    () => lab.get('configmap', 'tcpcrypt-policy-later', '-n', NAMESPACE).catch(() => undefined),
    'the work goes on',
    15_000,
  );
  assert.doesNotMatch(first.log() + second.log(), /"level":"(error|fatal)"/);
});

test('nothing was forbidden to the service account', { skip }, () => {
  for (const replica of replicas) assert.doesNotMatch(replica.log(), /403|is forbidden|cannot /);
});
