/** What the cluster itself has to do before anything of the product is in it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ended, eventually } from '../kernel/support/processes.ts';
import { dnsAddresses, nodeNames, nodes } from './addresses.ts';
import { reboot } from './cluster.ts';
import { pod, WEB_SERVER } from './support/pods.ts';
import { service, serviceAddresses } from './support/services.ts';
import { sharedCluster as cluster, skip, useNamespace } from './support/shared.ts';

const FAMILIES = [4, 6] as const;
const labels = { service: 'web' };
const context = useNamespace('cluster-test', (namespace) =>
  namespace.start([
    pod({ name: 'client1', node: 'node1' }),
    pod({ name: 'client2', node: 'node2' }),
    pod({ name: 'web1', node: 'node1', command: WEB_SERVER, labels }),
    pod({ name: 'web2', node: 'node2', command: WEB_SERVER, labels }),
    service('web', labels),
    // One pod alone: it is its own client behind it.
    service('web1', { app: 'web1' }),
  ]),
);

test('pods have addresses of both families from their nodes', { skip }, () => {
  for (const [name, node] of [
    ['client1', 'node1'],
    ['client2', 'node2'],
  ] as const) {
    const found = context.namespace.pod(name);
    assert.equal(found.spec.nodeName, node);
    const [v4, v6] = found.status.podIPs.map(({ ip }) => ip);
    assert.ok(v4.startsWith(nodes[node].pods4.replace('0/24', '')), v4);
    assert.ok(v6.startsWith(nodes[node].pods6.replace(':/64', '')), v6);
  }
});

test('pod to pod, on one node and across, keeps the addresses of both', { skip }, async () => {
  const { namespace } = context;
  for (const family of FAMILIES)
    for (const client of ['client1', 'client2'])
      for (const server of ['web1', 'web2']) {
        const from = namespace.address(client, family).replace(/[[\]]/g, '');
        assert.equal(
          namespace.fetch(client, `http://${namespace.address(server, family)}/?from-${from}`),
          server,
        );
        // nginx logs who asked; the log also shows that `kubectl logs` works.
        const line = new RegExp(`^${from.replaceAll('.', '\\.')} .*from-${from.replaceAll('.', '\\.')}`, 'm');
        await eventually(
          () => line.test(namespace.kubectl(['logs', server]).stdout),
          `${from} in ${server}'s log`,
        );
      }
});

test('a Service, from either node, reaches its pods on both', { skip }, () => {
  for (const address of serviceAddresses(context.namespace, 'web'))
    for (const client of ['client1', 'client2']) {
      const answers = new Set<string>();
      // kube-proxy chooses by chance: not to meet one of two in 40 times is one in 10^12.
      for (let i = 0; i < 40 && answers.size < 2; i++)
        answers.add(context.namespace.fetch(client, `http://${address}/`));
      assert.deepEqual([...answers].sort(), ['web1', 'web2']);
    }
});

test('a pod reaches itself through its Service', { skip }, () => {
  for (const address of serviceAddresses(context.namespace, 'web1'))
    assert.equal(context.namespace.fetch('web1', `http://${address}/`), 'web1');
});

test('DNS over UDP and TCP, over IPv4 and IPv6', { skip }, () => {
  const { namespace } = context;
  const name = `web.${namespace.name}.svc.cluster.local`;
  const addresses = serviceAddresses(context.namespace, 'web').map((each) => each.replace(/[[\]]/g, ''));
  for (const server of dnsAddresses)
    for (const how of ['+notcp', '+tcp'])
      for (const [i, type] of ['A', 'AAAA'].entries()) {
        const found = namespace
          .exec('client1', ['dig', '+short', how, `@${server}`, type, name])
          .stdout.trim();
        assert.equal(found, addresses[i], `${type} ${how} of ${server}`);
      }
  assert.match(namespace.fetch('client2', 'http://web/'), /^web[12]$/);
});

test('exec passes input, output and the exit code', { skip }, () => {
  const { namespace } = context;
  const input = 'x'.repeat(1_000_000);
  assert.equal(namespace.exec('client2', ['wc', '-c'], { input }).stdout.trim(), String(input.length));
  assert.equal(namespace.exec('client1', ['sh', '-c', 'exit 7'], { allowFailure: true }).status, 7);
});

test('port-forward', { skip }, async () => {
  const child = cluster.spawnKubectl(['-n', context.namespace.name, 'port-forward', 'web2', '8080:80']);
  try {
    const fetch = () =>
      cluster.control.runInNetwork('curl', ['-s', 'localhost:8080'], { allowFailure: true });
    await eventually(() => fetch().stdout.trim() === 'web2', 'an answer through the forwarded port', 30_000);
  } finally {
    await ended(child);
  }
});

test('a node that loses power comes back, and its pods with it', { skip }, async () => {
  const { namespace } = context;
  await reboot(cluster, 'node2');
  await eventually(
    () => namespace.pod('web2').status.containerStatuses?.every(({ restartCount }) => restartCount > 0),
    'web2 started again',
    180_000,
  );
  namespace.ready(['pod/web2', 'pod/client2']);
  for (const family of FAMILIES) {
    assert.equal(namespace.fetch('client1', `http://${namespace.address('web2', family)}/`), 'web2');
    assert.equal(namespace.fetch('client2', `http://${namespace.address('web1', family)}/`), 'web1');
  }
});

test('both nodes are what a scheduler would choose', { skip }, () => {
  for (const name of nodeNames) {
    const node = cluster.get<{ spec: { taints?: object[] }; status: { addresses: { address: string }[] } }>(
      'node',
      name,
    );
    assert.deepEqual(node.spec.taints ?? [], []);
    const addresses = node.status.addresses.map(({ address }) => address);
    assert.ok(addresses.includes(nodes[name].v4) && addresses.includes(nodes[name].v6), addresses.join());
  }
});
