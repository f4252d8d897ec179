/** The chart's objects on a real API server: accepted, installed, upgraded, rolled back, removed; with Helm 3 and 4. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { buildPrograms } from '../cluster/programs.ts';
import { eventually } from '../kernel/support/processes.ts';
import { folder, HELMS, helm, rendered, VARIANTS } from './chart.ts';
import {
  CHART,
  installArguments,
  type Json,
  type Lab,
  NAMESPACE,
  podManifest,
  skip,
  startLab,
} from './lab.ts';

let lab: Lab;

before(
  async () => {
    if (skip) return;
    await buildPrograms(HELMS);
    lab = await startLab({ install: false });
    for (const name of [NAMESPACE, 'tcpcrypt-test']) await lab.kubectl('create', 'namespace', name);
    await foreignKinds();
  },
  { timeout: 900_000 },
);
after(async () => {
  await lab?.[Symbol.asyncDispose]();
});

/** Kinds of the Prometheus operator and of cert-manager, without their schemas. */
async function foreignKinds(): Promise<void> {
  const kinds = [
    ['monitoring.coreos.com', 'PodMonitor', 'podmonitors'],
    ['monitoring.coreos.com', 'PrometheusRule', 'prometheusrules'],
    ['cert-manager.io', 'Certificate', 'certificates'],
    ['cert-manager.io', 'Issuer', 'issuers'],
  ] as const;
  for (const [group, kind, plural] of kinds) {
    const openAPIV3Schema = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true };
    const versions = [{ name: 'v1', served: true, storage: true, schema: { openAPIV3Schema } }];
    await lab.create({
      apiVersion: 'apiextensions.k8s.io/v1',
      kind: 'CustomResourceDefinition',
      metadata: { name: `${plural}.${group}` },
      spec: { group, scope: 'Namespaced', names: { kind, plural }, versions },
    });
    await lab.kubectl('wait', '--for=condition=Established', `crd/${plural}.${group}`, '--timeout=30s');
  }
}

for (const version of HELMS) {
  test(`${version}: the API server accepts every object of every variant, each field`, { skip }, async () => {
    for (const [name, values] of Object.entries(VARIANTS)) {
      const list = { apiVersion: 'v1', kind: 'List', items: rendered(version, values) };
      // Their namespace is there: it is a test's own.
      list.items = list.items.filter(({ kind }) => kind !== 'Namespace');
      const file = join(folder, 'objects.json');
      writeFileSync(file, JSON.stringify(list));
      await lab
        .kubectl('create', '--dry-run=server', '--validate=strict', '-f', file)
        .catch((error: Error) => assert.fail(`${name}: ${error.message}`));
    }
  });

  test(`${version}: installed, upgraded, rolled back, uninstalled, with an operator running`, {
    skip,
  }, async () => {
    const run = (...args: string[]): void => {
      const { ok, text } = helm(version, args, lab.controlPlane.kubeconfig);
      assert.ok(ok, `${args[0]}: ${text}`);
    };
    run(...installArguments());
    const replica = await lab.operator();
    const webhooks = () => lab.get('mutatingwebhookconfiguration', 'tcpcrypt');
    const caBundle = async () => (await webhooks()).webhooks[0].clientConfig.caBundle;
    await eventually(caBundle, 'the caBundle', 20_000);
    const secret = () => lab.get('secret', 'tcpcrypt-webhook', '-n', NAMESPACE);
    const before = { bundle: await caBundle(), secret: (await secret()).data };

    run('upgrade', 'tcpcrypt', CHART, '-n', NAMESPACE, '--reuse-values', '--set', 'webhook.timeoutSeconds=1');
    assert.equal((await webhooks()).webhooks[0].timeoutSeconds, 1);
    assert.deepEqual(
      { bundle: await caBundle(), secret: (await secret()).data },
      before,
      'Helm leaves them alone',
    );
    run('rollback', 'tcpcrypt', '1', '-n', NAMESPACE);
    assert.equal((await webhooks()).webhooks[0].timeoutSeconds, 2);
    assert.deepEqual(
      { bundle: await caBundle(), secret: (await secret()).data },
      before,
      'nor at a rollback',
    );
    const lease = await lab.get('lease', 'tcpcrypt-operator', '-n', NAMESPACE);
    assert.equal(lease.spec.holderIdentity, replica.identity);

    // Nobody here runs the hook's Job: test/cluster does.
    run('uninstall', 'tcpcrypt', '-n', NAMESPACE, '--no-hooks');
    await lab.create(podManifest('after', 'default'), '--dry-run=server');
    await replica.stop();
    assert.deepEqual(await leftovers(), []);
  });
}

/** What is left of the release, but for what the garbage collector (there is none here) takes with the release. */
async function leftovers(): Promise<string[]> {
  const kinds =
    'configmaps,secrets,leases,serviceaccounts,services,deployments,daemonsets,roles,rolebindings,networkpolicies,poddisruptionbudgets';
  const cluster =
    'clusterroles,clusterrolebindings,mutatingwebhookconfigurations,validatingwebhookconfigurations,priorityclasses';
  const items = [...(await lab.get(kinds, '-n', NAMESPACE)).items, ...(await lab.get(cluster)).items];
  const left = items
    .filter(({ metadata }: Json) => metadata.name.includes('tcpcrypt'))
    .filter(
      ({ metadata }: Json) =>
        !metadata.ownerReferences?.some(({ name }: Json) => name === 'tcpcrypt-operator'),
    );
  const owned = items.filter(({ metadata }: Json) => metadata.name.startsWith('tcpcrypt-policy-'));
  for (const { metadata } of owned) await lab.kubectl('delete', 'configmap', metadata.name, '-n', NAMESPACE);
  return left.map(({ kind, metadata }: Json) => `${kind} ${metadata.name}`);
}
