/** Two pods on two nodes with the sidecar put in by hand: the image works where it has to. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { productImage } from './images.ts';
import { fetchLetter, SECRET_SERVER } from './support/fetch.ts';
import { pod, WEB_SERVER } from './support/pods.ts';
import { sharedCluster as cluster, skip, useNamespace } from './support/shared.ts';
import { encryptedAtBothEnds, sidecarSpec } from './support/sidecar.ts';

const context = useNamespace('by-hand-test', async (namespace) => {
  cluster.loadImage(await productImage());
  await namespace.start([
    pod({ name: 'plain', node: 'node1' }),
    pod({ name: 'client', node: 'node1', spec: sidecarSpec }),
    pod({ name: 'server', node: 'node2', spec: sidecarSpec, command: SECRET_SERVER }),
    pod({ name: 'web', node: 'node2', spec: sidecarSpec, command: WEB_SERVER }),
  ]);
});

for (const family of [4, 6] as const)
  test(`two pods on two nodes talk encrypted, IPv${family}`, { skip }, async () => {
    const ends = { client: 'client', server: 'server', node: 'node1', family } as const;
    const captured = await fetchLetter(context.namespace, ends, async () => {
      const [mine, theirs] = await encryptedAtBothEnds(context.namespace, 'client', 'server', 80);
      assert.ok(mine.sessionId);
      assert.equal(mine.sessionId, theirs.sessionId);
    });
    assert.ok(captured.dataPackets > 100, `only ${captured.dataPackets} packets with data between the nodes`);
    assert.equal(captured.find('treasure'), undefined, 'data was on the wire in clear');
  });

test('a pod without a sidecar is served in plain TCP, and the capture shows it', { skip }, async () => {
  const captured = await fetchLetter(context.namespace, { client: 'plain', server: 'server', node: 'node1' });
  assert.ok(captured.find('treasure'), 'the capture does not show what is in clear');
});

test('the kubelet reaches a pod with a sidecar: probes', { skip }, () => {
  // WEB_SERVER has a readiness probe over HTTP, and `start` waited for it.
  assert.equal(context.namespace.fetch('client', `http://${context.namespace.address('web', 4)}/`), 'web');
});

test('the image has no shell and no package manager', { skip }, () => {
  for (const program of ['sh', 'bash', 'dash', 'apt-get', 'dpkg', 'npm']) {
    const { status, stderr } = context.namespace.exec('client/tcpcrypt', [program, '--version'], {
      allowFailure: true,
    });
    assert.notEqual(status, 0, program);
    assert.match(stderr, /not found/, program);
  }
  for (const program of [
    'iptables-legacy',
    'iptables-nft',
    'ip6tables-legacy',
    'ip6tables-nft',
    'tcpcrypt',
    'node',
  ]) {
    const { stdout } = context.namespace.exec('client/tcpcrypt', [program, '--version']);
    assert.match(stdout, /\d+\.\d+/, program);
  }
});
