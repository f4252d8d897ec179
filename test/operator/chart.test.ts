/** The chart: what Helm 3 and 4 make of it for every platform and flag. No cluster is asked. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { parse, parseAllDocuments } from 'yaml';
import { parseCommand as parseAgentCommand } from '../../cni/agent/commands.ts';
import { parseConfig } from '../../operator/config.ts';
import { buildPrograms } from '../cluster/programs.ts';
import { find, HELMS, helm, KUBERNETES, rendered, VARIANTS, valuesFile } from './chart.ts';
import { CHART, type Json, NAMESPACE, skip } from './lab.ts';

before(
  async () => {
    if (!skip) await buildPrograms(HELMS);
  },
  { timeout: 900_000 },
);

for (const version of HELMS) {
  test(`${version} lint --strict, every variant`, { skip }, () => {
    for (const [name, values] of Object.entries(VARIANTS)) {
      const { ok, text } = helm(version, [
        'lint',
        '--strict',
        CHART,
        ...KUBERNETES,
        '-f',
        valuesFile(values),
      ]);
      assert.ok(ok, `${name}: ${text}`);
    }
  });
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
    const { ok, text } = helm('helm', [
      'template',
      'tcpcrypt',
      CHART,
      ...KUBERNETES,
      '-f',
      valuesFile(wrong),
    ]);
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
    assert.ok([undefined, 'test', 'pre-delete'].includes(hook), 'no hooks but these');
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
  const { ok, text } = helm('helm', ['template', 'second', CHART, '-n', 'other', ...KUBERNETES]);
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

test('Kubernetes 1.29 is the oldest: AppArmor by annotation there, by field later', { skip }, () => {
  const template = (version: string) =>
    helm('helm', ['template', 'tcpcrypt', CHART, '-n', NAMESPACE, '--kube-version', version]);
  const old = template('1.28.15');
  assert.ok(!old.ok && old.text.includes('>=1.29'), old.text);
  const field = /appArmorProfile: \{type: Unconfined\}/;
  const annotation = /container\.apparmor\.security\.beta\.kubernetes\.io\/node-agent: unconfined/;
  const first = template('1.29.0');
  assert.match(first.text, annotation);
  assert.doesNotMatch(first.text, field);
  assert.match(template('1.34.0').text, field);
});
