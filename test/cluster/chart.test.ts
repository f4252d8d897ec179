/** The chart on a cluster, installed as a user does it, with no values but the image's name. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nodeNames } from './addresses.ts';
import { productImage } from './images.ts';
import { helm, installChart, RELEASE_NAMESPACE } from './support/chart.ts';
import { fetchLetter, SECRET_SERVER } from './support/fetch.ts';
import { pod } from './support/pods.ts';
import { sharedCluster as cluster, skip, useNamespace } from './support/shared.ts';
import { encryptedAtBothEnds } from './support/sidecar.ts';

const context = useNamespace('chart-test', async (namespace) => {
  cluster.loadImage(await productImage());
  await installChart(cluster);
  await namespace.start([
    pod({ name: 'client', node: 'node1' }),
    pod({ name: 'server', node: 'node2', command: SECRET_SERVER }),
  ]);
});

test('pods whose manifests know nothing of it talk encrypted between nodes', { skip }, async () => {
  const { namespace } = context;
  for (const family of [4, 6] as const) {
    const ends = { client: 'client', server: 'server', node: 'node1', family } as const;
    const captured = await fetchLetter(namespace, ends, async () => {
      const [mine, theirs] = await encryptedAtBothEnds(namespace, 'client', 'server', 80);
      assert.ok(mine.sessionId);
      assert.equal(mine.sessionId, theirs.sessionId);
    });
    assert.ok(captured.dataPackets > 100, `only ${captured.dataPackets} packets with data`);
    assert.equal(captured.find('treasure'), undefined, 'data was between the nodes in clear');
  }
});

test('exec, logs and probes go on as before', { skip }, () => {
  const { namespace } = context;
  assert.equal(
    namespace.exec('client', ['wc', '-c'], { input: 'x'.repeat(100_000) }).stdout.trim(),
    '100000',
  );
  assert.match(namespace.kubectl(['logs', 'server', '-c', 'tcpcrypt']).stdout, /ready/);
});

test('helm test passes', { skip }, () => {
  helm(cluster, ['test', 'tcpcrypt', '--timeout', '3m'], { timeoutMs: 200_000 });
});

test('after helm uninstall pods start as before, and the nodes have nothing of it left', {
  skip,
}, async () => {
  const { namespace } = context;
  helm(cluster, ['uninstall', 'tcpcrypt', '--wait', '--timeout', '3m'], { timeoutMs: 200_000 });
  cluster.kubectl(['wait', '--for=delete', 'pod', '--all', '-n', RELEASE_NAMESPACE, '--timeout=120s'], {
    timeoutMs: 150_000,
  });
  for (const name of nodeNames) {
    const { stdout } = cluster.nodes[name].run('cat', ['/etc/cni/net.d/10-bridge.conflist']);
    assert.doesNotMatch(stdout, /tcpcrypt/, name);
  }
  await namespace.start([pod({ name: 'afterwards', node: 'node1' })]);
  const afterwards = cluster.get<{ spec: { initContainers?: object[] } }>(
    '-n',
    namespace.name,
    'pod',
    'afterwards',
  );
  assert.deepEqual(afterwards.spec.initContainers ?? [], []);
  assert.match(namespace.fetch('afterwards', `http://${namespace.address('server', 4)}/`), /nginx/);
});
