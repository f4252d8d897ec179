/** However a release ends, the nodes are as they were before. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ended, eventually } from '../../kernel/support/processes.ts';
import { nodeNames } from '../addresses.ts';
import { productImage } from '../images.ts';
import { buildPrograms } from '../programs.ts';
import { chart, helm, IMAGE_VALUES, installChart, RELEASE_NAMESPACE, spawnHelm } from '../support/chart.ts';
import { condition, filesOn, traces } from '../support/node.ts';
import { pod } from '../support/pods.ts';
import { sharedCluster as cluster, skip, useNamespace } from '../support/shared.ts';

const ROUNDS = 3;

const context = useNamespace('uninstall-test', async () => {
  await buildPrograms(['helm', 'helm4']);
  cluster.loadImage(await productImage());
  // What other tests left.
  helm(cluster, ['uninstall', 'tcpcrypt', '--ignore-not-found']);
});

const allTraces = (): string[] => nodeNames.flatMap((node) => traces(cluster, node));
const isChained = (): boolean => nodeNames.every((node) => condition(cluster, node)?.reason === 'Chained');

/** What is left of a release in the API, what its namespace holds excepted that is going. */
function objects(): string[] {
  const everywhere =
    'clusterroles,clusterrolebindings,mutatingwebhookconfigurations,validatingwebhookconfigurations';
  const inside = 'daemonsets,deployments,jobs,roles,rolebindings,serviceaccounts,secrets,services,leases';
  const selector = ['-l', 'app.kubernetes.io/name=tcpcrypt', '-o', 'name'];
  return [
    cluster.kubectl(['get', everywhere, ...selector]).stdout,
    cluster.kubectl(['get', inside, '-n', RELEASE_NAMESPACE, ...selector]).stdout,
  ]
    .join('')
    .split('\n')
    .filter((line) => line !== '');
}

test(`installed and uninstalled ${ROUNDS} times, by Helm 3 and 4 in turns`, { skip }, async () => {
  for (let round = 1; round <= ROUNDS; round++) {
    const version = round % 2 === 0 ? 'helm4' : 'helm';
    // Not even until all of it is ready.
    const set = IMAGE_VALUES.flatMap((value) => ['--set', value]);
    helm(cluster, ['install', 'tcpcrypt', chart, '--create-namespace', ...set], { version });
    await eventually(isChained, 'the plugin on both nodes', 60_000);
    helm(cluster, ['uninstall', 'tcpcrypt'], { version });
    assert.deepEqual([...allTraces(), ...objects()], [], `round ${round}, ${version}`);
  }
});

test('helm is killed in the middle: a second uninstallation brings it to its end', { skip }, async () => {
  await installChart(cluster);
  const dying = spawnHelm(cluster, ['uninstall', 'tcpcrypt']);
  const job = () =>
    cluster.kubectl(['get', 'job', 'tcpcrypt-uninstall', '-n', RELEASE_NAMESPACE], { allowFailure: true });
  await eventually(() => job().status === 0, 'the hook', 30_000);
  await ended(dying, 'SIGKILL');
  await eventually(() => allTraces().length === 0, 'clean nodes', 60_000);
  helm(cluster, ['uninstall', 'tcpcrypt']);
  assert.deepEqual([...allTraces(), ...objects()], []);
});

for (const [what, remove] of [
  ['helm uninstall --no-hooks', () => helm(cluster, ['uninstall', 'tcpcrypt', '--no-hooks'])],
  [
    'kubectl delete namespace',
    () => cluster.kubectl(['delete', 'namespace', RELEASE_NAMESPACE], { timeoutMs: 180_000 }),
  ],
] as const)
  test(`${what}: pods start as before`, { skip }, async () => {
    const { namespace } = context;
    await installChart(cluster);
    remove();
    const noPods = () =>
      cluster.kubectl(['get', 'pods', '-n', RELEASE_NAMESPACE, '-o', 'name'], { allowFailure: true })
        .stdout === '';
    await eventually(noPods, 'the end of the agents', 60_000);
    for (const node of nodeNames) assert.deepEqual(filesOn(cluster, node), [], node);
    const name = `after-${what.split(' ')[0]}`;
    await namespace.start([pod({ name, node: 'node1' })]);
  });

test('what such an end has left behind goes with the next release', { skip }, async () => {
  await installChart(cluster);
  helm(cluster, ['uninstall', 'tcpcrypt']);
  assert.deepEqual([...allTraces(), ...objects()], []);
});
