/** The life of a release with pods that run all the while: upgraded, rolled back, uninstalled, its nodes rebooted. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventually } from '../../kernel/support/processes.ts';
import { type NodeName, nodeNames } from '../addresses.ts';
import { reboot } from '../cluster.ts';
import { NEXT_TAG, nextImage } from '../images.ts';
import { chart, helm, useChart } from '../support/chart.ts';
import { fetchWhole, inTheMiddle, SECRET_SERVER } from '../support/fetch.ts';
import { Agent, pluginsIn, traces } from '../support/node.ts';
import { pod } from '../support/pods.ts';
import { sharedCluster as cluster, skip } from '../support/shared.ts';
import { sidecarReady } from '../support/sidecar.ts';

const ends = { client: 'client', server: 'server', node: 'node1' } as const;
const context = useChart('life-test', async (namespace) => {
  cluster.loadImage(await nextImage());
  await namespace.start([
    pod({ name: 'client', node: 'node1' }),
    pod({ name: 'server', node: 'node2', command: SECRET_SERVER }),
  ]);
  for (const name of ['client', 'server']) await sidecarReady(namespace, name);
});

/** Whether a pod has our sidecar. */
const isInjected = (name: string): boolean =>
  (context.namespace.pod(name).spec.initContainers ?? []).some((each) => each.name === 'tcpcrypt');

const allTraces = (): string[] => nodeNames.flatMap((node) => traces(cluster, node));

/** Each node's agent is of this image, and has given its policy to as many pods. */
async function agentsServe(image: string, pods: Readonly<Record<NodeName, number>>): Promise<void> {
  for (const node of nodeNames) {
    const agent = new Agent(cluster, node);
    assert.equal(agent.image, image);
    await eventually(
      () => agent.programmedPods() === pods[node],
      `${pods[node]} pods of ${node} with rules and policy`,
      30_000,
    );
  }
}

/** How often a pod's containers were started again, each. */
function restarts(name: string): number[] {
  const { containerStatuses = [], initContainerStatuses = [] } = context.namespace.pod(name).status;
  return [...initContainerStatuses, ...containerStatuses].map(({ restartCount }) => restartCount);
}

async function rebooted(node: NodeName, name: string): Promise<void> {
  const before = restarts(name);
  await reboot(cluster, node);
  const startedAgain = (): boolean => restarts(name).every((count, i) => count > before[i]!);
  await eventually(startedAgain, `${name} started again`, 120_000);
  context.namespace.ready([`pod/${name}`]);
  await sidecarReady(context.namespace, name);
}

test('upgraded and rolled back in the middle of downloads, with sidecars of both versions', {
  skip,
}, async () => {
  const { namespace } = context;
  const mine = new Agent(cluster, 'node1').image;
  await inTheMiddle(namespace, ends, async () => {
    helm(cluster, [
      'upgrade',
      'tcpcrypt',
      chart,
      '--reuse-values',
      '--set',
      `image.tag=${NEXT_TAG}`,
      '--wait',
    ]);
    await agentsServe(mine.replace(/[^:]*$/, NEXT_TAG), { node1: 1, node2: 1 });
    await namespace.start([pod({ name: 'newer', node: 'node1' })]);
    await sidecarReady(namespace, 'newer');
    fetchWhole(namespace, { client: 'newer', server: 'server' });
    helm(cluster, ['rollback', 'tcpcrypt', '--wait']);
    await agentsServe(mine, { node1: 2, node2: 1 });
    fetchWhole(namespace, { client: 'newer', server: 'server' });
  });
});

test('a node that loses power comes back with its agent, and its pods encrypt', { skip }, async () => {
  const { namespace } = context;
  const { name } = new Agent(cluster, 'node2');
  await rebooted('node2', 'server');
  const agent = new Agent(cluster, 'node2');
  assert.equal(agent.name, name);
  assert.deepEqual(pluginsIn(cluster, 'node2').slice(-1), ['tcpcrypt']);
  await inTheMiddle(namespace, ends);
  await eventually(() => agent.programmedPods() === 1, 'the server’s policy', 60_000);
});

test('uninstalled in the middle of downloads: pods run on, new ones start without, nodes are clean', {
  skip,
}, async () => {
  const { namespace } = context;
  await inTheMiddle(namespace, ends, async () => {
    helm(cluster, ['uninstall', 'tcpcrypt', '--wait']);
    assert.deepEqual(allTraces(), []);
    await namespace.start([pod({ name: 'later', node: 'node2' })]);
    assert.equal(isInjected('later'), false);
  });
  fetchWhole(namespace, { client: 'later', server: 'server' });
});

test('a node that loses power after that starts every pod, and those with a sidecar encrypt', {
  skip,
}, async () => {
  const { namespace } = context;
  await rebooted('node2', 'server');
  await inTheMiddle(namespace, ends);
  namespace.ready(['pod/later']);
});
