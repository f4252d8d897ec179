/** What a sidecar costs: told, not judged, for it depends on the machine. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ended, finished, sleep } from '../../kernel/support/processes.ts';
import { useChart } from '../support/chart.ts';
import { pod } from '../support/pods.ts';
import { sharedCluster as cluster, skip } from '../support/shared.ts';
import { encryptedAtBothEnds, Sidecar } from '../support/sidecar.ts';

const ROUNDS = 5;
const SECONDS = 5;
const IPERF_PORT = 5201;
const plain = { 'tcpcrypt.io/inject': 'disabled' };

const context = useChart('cost-test', (namespace) =>
  namespace.start([
    pod({ name: 'client', node: 'node1' }),
    pod({ name: 'server', node: 'node2', command: ['iperf3', '--server'] }),
  ]),
);

test('from a pod made to a pod ready, with and without the sidecar', { skip }, async (t) => {
  const { namespace } = context;
  const started = async (name: string, labels: Readonly<Record<string, string>>): Promise<number> => {
    const began = performance.now();
    await namespace.start([pod({ name, node: 'node1', labels })]);
    return performance.now() - began;
  };
  const times: Record<'with' | 'without', number[]> = { with: [], without: [] };
  // In turns: the machine is not equally busy all the time.
  for (let i = 0; i < ROUNDS; i++) {
    times.with.push(await started(`with-${i}`, {}));
    times.without.push(await started(`without-${i}`, plain));
  }
  for (const [how, each] of Object.entries(times)) {
    const [median] = each.toSorted((a, b) => a - b).slice(Math.floor(ROUNDS / 2));
    t.diagnostic(`${how}: ${(median! / 1000).toFixed(1)} s, median of ${ROUNDS}`);
  }
});

test("a sidecar's memory and CPU, at rest and under load", { skip }, async (t) => {
  const { namespace } = context;
  const sidecars = ['client', 'server'].map((name) => new Sidecar(namespace, name));
  const during = async (what: string, work: () => Promise<void>): Promise<void> => {
    const before = sidecars.map((sidecar) => sidecar.usage());
    const began = performance.now();
    await work();
    const seconds = (performance.now() - began) / 1000;
    const each = sidecars.map((sidecar, i) => {
      const { residentBytes, cpuSeconds } = sidecar.usage();
      const share = (100 * (cpuSeconds - before[i]!.cpuSeconds)) / seconds;
      return `${(residentBytes / 1e6).toFixed(0)} MB, ${share.toFixed(1)} % of a core`;
    });
    t.diagnostic(`${what}: client ${each[0]}; server ${each[1]}`);
  };
  await during('at rest', () => sleep(SECONDS * 1000));
  await during('one stream', async () => {
    const address = namespace.address('server', 4);
    const iperf = ['iperf3', '--client', address, '--time', String(SECONDS), '--json'];
    const child = cluster.spawnKubectl([
      '-n',
      namespace.name,
      'exec',
      'client',
      '-c',
      'main',
      '--',
      ...iperf,
    ]);
    const done = finished(child);
    try {
      await encryptedAtBothEnds(namespace, 'client', 'server', IPERF_PORT);
      const { sum_received } = JSON.parse((await done).stdout).end;
      assert.ok(sum_received.bytes > 0);
      t.diagnostic(`one stream: ${(sum_received.bits_per_second / 1e9).toFixed(2)} Gbit/s from node to node`);
    } finally {
      await ended(child, 'SIGKILL');
    }
  });
  await during('after it', () => sleep(1000));
});
