/** The chart: what Helm makes of it for every platform and flag, and its life on a real API server, with Helm 3 and 4. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { parse, parseAllDocuments, stringify } from 'yaml';
import { parseCommand as parseAgentCommand } from '../../cni/agent/commands.ts';
import { parseConfig } from '../../operator/config.ts';
import { buildPrograms, requireProgram } from '../cluster/programs.ts';
import { eventually } from '../kernel/support/processes.ts';
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

const KUBERNETES = ['--kube-version', '1.34'];
const HELMS = ['helm', 'helm4'] as const;
type Helm = (typeof HELMS)[number];
const PLATFORMS = ['auto', 'gke', 'k3s', 'microk8s', 'openshift'];

/** One of each kind of flag; every platform besides. */
const VARIANTS: Readonly<Record<string, Json>> = {
  'no values': {},
  ...Object.fromEntries(PLATFORMS.map((platform) => [`platform ${platform}`, { platform }])),
  monitoring: {
    metrics: {
      podMonitor: { enabled: true, sidecars: true, labels: { release: 'prometheus' } },
      prometheusRule: { enabled: true },
      dashboard: { enabled: true },
    },
  },
  'cert-manager': { webhook: { certManager: { enabled: true } } },
  'cert-manager, an issuer': {
    webhook: { certManager: { enabled: true, issuerRef: { name: 'ca', kind: 'ClusterIssuer' } } },
  },
  'no agent, one replica': {
    nodeAgent: { enabled: false },
    operator: { replicas: 1, hostNetwork: true, podDisruptionBudget: { enabled: false } },
    networkPolicy: { enabled: false },
  },
  'everything set': {
    image: { digest: `sha256:${'0'.repeat(64)}`, pullSecrets: ['registry'] },
    injection: { default: 'disabled', excludedNamespaces: ['legacy'], args: ['--first-queue=6000'] },
    policy: {
      mode: 'Strict',
      authentication: 'Required',
      rules: [{ direction: 'Inbound', ports: [{ port: 5432 }], mode: 'Strict' }],
      sessionCache: { maxEntries: 10 },
      rekey: { after: '1h' },
    },
    cluster: { cidrs: ['203.0.113.0/24', '2001:db8::/32'] },
    operator: {
      nodeSelector: { a: 'b' },
      tolerations: [{ operator: 'Exists' }],
      affinity: { podAntiAffinity: {} },
      podLabels: { a: 'b' },
      podAnnotations: { a: 'b' },
    },
    nodeAgent: {
      cni: { enabled: false, binDir: '/bin', confDir: '/conf', agentUnavailable: 'Fail' },
      kubeletDir: '/kubelet',
      podLabels: { a: 'b' },
      podAnnotations: { a: 'b' },
      tolerations: [{ key: 'a', operator: 'Exists' }],
    },
  },
};

let folder: string;
let lab: Lab;

before(
  async () => {
    if (skip) return;
    await buildPrograms(['helm', 'helm4']);
    folder = mkdtempSync(join(tmpdir(), 'tcpcrypt-chart-'));
    lab = await startLab({ install: false });
    for (const name of [NAMESPACE, 'tcpcrypt-test']) await lab.kubectl('create', 'namespace', name);
    await foreignKinds();
  },
  { timeout: 900_000 },
);
after(async () => {
  await lab?.[Symbol.asyncDispose]();
  if (folder) rmSync(folder, { recursive: true, force: true });
});

function helm(version: Helm, ...args: string[]): { ok: boolean; text: string } {
  const { status, stdout, stderr } = spawnSync(requireProgram(version), args, {
    encoding: 'utf8',
    env: { ...process.env, HOME: folder, KUBECONFIG: lab.controlPlane.kubeconfig },
    maxBuffer: 1 << 24,
  });
  return { ok: status === 0, text: stdout + stderr };
}

function valuesFile(values: Json): string {
  const file = join(folder, 'values.yaml');
  writeFileSync(file, stringify(values));
  return file;
}

function rendered(version: Helm, values: Json): Json[] {
  const { ok, text } = helm(
    version,
    'template',
    'tcpcrypt',
    CHART,
    '-n',
    NAMESPACE,
    ...KUBERNETES,
    '-f',
    valuesFile(values),
  );
  assert.ok(ok, text);
  return parseAllDocuments(text)
    .map((document) => document.toJS() as Json)
    .filter((object) => object !== null);
}

const find = (objects: Json[], kind: string, name: string): Json =>
  objects.find((object) => object.kind === kind && object.metadata.name === name);

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
  test(`${version} lint --strict, every variant`, { skip }, () => {
    for (const [name, values] of Object.entries(VARIANTS)) {
      const { ok, text } = helm(version, 'lint', '--strict', CHART, ...KUBERNETES, '-f', valuesFile(values));
      assert.ok(ok, `${name}: ${text}`);
    }
  });

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
      const { ok, text } = helm(version, ...args);
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

    run('uninstall', 'tcpcrypt', '-n', NAMESPACE);
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

test('an unknown key is refused at every level', { skip }, () => {
  const values = parse(readFileSync(join(CHART, 'values.yaml'), 'utf8')) as Json;
  // Maps that are Kubernetes' own, or free.
  const free =
    /(labels|Labels|Annotations|nodeSelector|affinity|updateStrategy|rollingUpdate|requests|limits)$/;
  const paths: string[][] = [];
  const walk = (value: Json, path: string[]): void => {
    if (typeof value !== 'object' || value === null || Array.isArray(value) || free.test(path.at(-1) ?? ''))
      return;
    paths.push(path);
    for (const [key, each] of Object.entries(value)) walk(each, [...path, key]);
  };
  walk(values, []);
  assert.ok(paths.length > 20);
  for (const path of paths) {
    const wrong = [...path, 'unknownKey'].reduceRight<Json>((value, key) => ({ [key]: value }), 1);
    const { ok, text } = helm('helm', 'template', 'tcpcrypt', CHART, ...KUBERNETES, '-f', valuesFile(wrong));
    assert.ok(!ok && text.includes('unknownKey'), path.join('.'));
  }
});

test('values.yaml has every key of the schema, and no other', { skip }, () => {
  const schema = JSON.parse(readFileSync(join(CHART, 'values.schema.json'), 'utf8')) as Json;
  const values = parse(readFileSync(join(CHART, 'values.yaml'), 'utf8')) as Json;
  const compare = (part: Json, value: Json, path: string): void => {
    if (part.properties === undefined || part.additionalProperties !== false) return;
    if (typeof value !== 'object' || Object.keys(value).length === 0) return;
    const known = Object.keys(part.properties).filter((key) => key !== 'global' && key !== 'claims');
    assert.deepEqual(
      Object.keys(value).filter((key) => !known.includes(key)),
      [],
      path,
    );
    if (!/resources$/.test(path)) assert.deepEqual(known.toSorted(), Object.keys(value).toSorted(), path);
    for (const key of known) compare(part.properties[key], value[key], `${path}.${key}`);
  };
  compare(schema, values, 'values');
});

test('the configuration that the chart writes is one that the operator takes', { skip }, () => {
  for (const [name, values] of Object.entries(VARIANTS)) {
    const { data } = find(rendered('helm', values), 'ConfigMap', 'tcpcrypt-operator');
    assert.doesNotThrow(() => parseConfig(data['operator.yaml'], NAMESPACE), name);
  }
  const { data } = find(rendered('helm', VARIANTS['everything set']), 'ConfigMap', 'tcpcrypt-operator');
  const config = parseConfig(data['operator.yaml'], NAMESPACE);
  assert.equal(config.injection.strict, true);
  assert.match(config.injection.image, /@sha256:0{64}$/);
  assert.deepEqual(config.decision.excludedNamespaces, ['kube-system', NAMESPACE, 'legacy']);
  const { rules } = config.policy as Json;
  assert.deepEqual(
    rules.map((rule: Json) => `${rule.direction} ${rule.mode}`),
    ['Inbound Strict', 'Outbound Strict', 'Outbound Disabled'],
  );
  assert.ok(rules[1].peers.some(({ cidr }: Json) => cidr === '2001:db8::/32'));
});

test('offer: Everywhere adds no rules', { skip }, () => {
  const { data } = find(
    rendered('helm', { policy: { offer: 'Everywhere' } }),
    'ConfigMap',
    'tcpcrypt-operator',
  );
  assert.deepEqual(parse(data['operator.yaml']).policy.rules, []);
});

test('the webhooks fail open but for enforced namespaces, within 2 s, and never for ourselves', {
  skip,
}, () => {
  const objects = rendered('helm', { injection: { excludedNamespaces: ['legacy'] } });
  const [inject] = find(objects, 'MutatingWebhookConfiguration', 'tcpcrypt').webhooks;
  assert.equal(inject.failurePolicy, 'Ignore');
  assert.equal(inject.timeoutSeconds, 2);
  assert.deepEqual(inject.namespaceSelector.matchExpressions, [
    { key: 'kubernetes.io/metadata.name', operator: 'NotIn', values: ['kube-system', NAMESPACE, 'legacy'] },
  ]);
  const [enforce] = find(objects, 'ValidatingWebhookConfiguration', 'tcpcrypt').webhooks;
  assert.equal(enforce.failurePolicy, 'Fail');
  assert.deepEqual(enforce.namespaceSelector.matchLabels, { 'tcpcrypt.io/enforce': 'strict' });
  for (const object of objects) {
    assert.equal(JSON.stringify(object).includes('caBundle'), false, 'never rendered by Helm');
    assert.equal(object.metadata.finalizers, undefined);
    const hook = object.metadata.annotations?.['helm.sh/hook'];
    assert.ok(hook === undefined || hook === 'test', 'no hooks but the test');
  }
});

test('platforms: folders, quota, chaining', { skip }, () => {
  const agentOf = (values: Json) => {
    const objects = rendered('helm', values);
    const { spec } = find(objects, 'DaemonSet', 'tcpcrypt-node-agent').spec.template;
    const paths = spec.volumes.map(({ hostPath }: Json) => hostPath.path);
    return {
      paths,
      args: spec.containers[0].args,
      quota: objects.some(({ kind }) => kind === 'ResourceQuota'),
    };
  };
  assert.ok(agentOf({}).paths.includes('/opt/cni/bin'));
  assert.equal(agentOf({}).quota, false);
  const gke = agentOf({ platform: 'gke' });
  assert.ok(gke.paths.includes('/home/kubernetes/bin') && gke.quota);
  assert.ok(agentOf({ platform: 'k3s' }).paths.includes('/var/lib/rancher/k3s/agent/etc/cni/net.d'));
  assert.ok(
    agentOf({ platform: 'microk8s' }).paths.includes('/var/snap/microk8s/common/var/lib/kubelet/pods'),
  );
  const openshift = agentOf({ platform: 'openshift' });
  assert.ok(!openshift.paths.includes('/var/lib/cni/bin'), 'no entry in Multus');
  const set = agentOf({ platform: 'openshift', nodeAgent: { cni: { enabled: true, binDir: '/mine' } } });
  assert.ok(set.paths.includes('/mine') && set.paths.includes('/etc/cni/multus/net.d'));
});

test("the node agent's rights are those that its documentation explains", { skip }, () => {
  const text = readFileSync(join(CHART, '../../docs/node-agent.md'), 'utf8');
  const documented = parse(/```yaml\n(cluster:.*?)```/s.exec(text)?.[1] ?? '') as Json;
  documented.release[1].resourceNames = ['tcpcrypt-node-agent'];
  const objects = rendered('helm', {});
  assert.deepEqual(find(objects, 'ClusterRole', 'tcpcrypt-node-agent').rules, documented.cluster);
  assert.deepEqual(find(objects, 'Role', 'tcpcrypt-node-agent').rules, documented.release);
});

test('the agent’s arguments are ones that it knows', { skip }, () => {
  for (const [name, values] of Object.entries(VARIANTS)) {
    const agent = find(rendered('helm', values), 'DaemonSet', 'tcpcrypt-node-agent');
    if (agent === undefined) continue;
    const [{ command, args }] = agent.spec.template.spec.containers;
    const environment = { NODE_NAME: 'n', POD_NAMESPACE: NAMESPACE };
    assert.equal(parseAgentCommand([...command.slice(1), ...args], environment).kind, 'run', name);
  }
});

test('a release of another name is whole in itself', { skip }, () => {
  const { ok, text } = helm('helm', 'template', 'second', CHART, '-n', 'other', ...KUBERNETES);
  assert.ok(ok, text);
  const objects = parseAllDocuments(text).map((document) => document.toJS() as Json);
  const named = objects.filter(({ metadata }) => metadata.annotations?.['helm.sh/hook'] === undefined);
  assert.ok(named.length > 15);
  for (const { kind, metadata } of named) assert.match(metadata.name, /^tcpcrypt-second/, kind);
  const references = [...text.matchAll(/tcpcrypt-(?!second)[a-z-]+/g)].map(([name]) => name);
  const allowed = ['tcpcrypt-test', 'tcpcrypt-node', 'tcpcrypt-operator', 'tcpcrypt-node-agent'];
  assert.deepEqual(
    references.filter((name) => !allowed.includes(name)),
    [],
    'commands and the test alone',
  );
});
