/** A path that loses our options, found by one pod: the others of its namespace on that node are spared the wait. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { total } from '../../kernel/support/metrics.ts';
import { type Outcome, outcomeOf } from '../../kernel/support/outcome.ts';
import { eventually } from '../../kernel/support/processes.ts';
import { useChart } from '../support/chart.ts';
import { pod, TestNamespace, WEB_SERVER } from '../support/pods.ts';
import { sharedCluster as cluster, skip } from '../support/shared.ts';
import { Sidecar } from '../support/sidecar.ts';

/** The kubelet's probes over the network would be counted with the rest. */
const container = { readinessProbe: { exec: { command: ['curl', '-sf', 'localhost'] }, periodSeconds: 1 } };

const context = useChart('negative-list-test', (namespace) =>
  namespace.start([
    pod({ name: 'server', node: 'node2', command: WEB_SERVER, container }),
    pod({ name: 'first', node: 'node1', command: WEB_SERVER, container }),
    pod({ name: 'second', node: 'node1' }),
  ]),
);

/** A request's outcome for the client. */
async function fetch(namespace: TestNamespace, from: string, to = 'server'): Promise<Outcome> {
  const url = `http://${context.namespace.address(to, 4)}/`;
  const [answer, outcome] = await outcomeOf([new Sidecar(namespace, from)], async () =>
    namespace.fetch(from, url),
  );
  assert.equal(answer, to);
  return outcome;
}

async function told(namespace: TestNamespace, name: string, entries: number): Promise<void> {
  const sidecar = new Sidecar(namespace, name);
  const now = (): number => total(sidecar.metrics(), 'tcpcrypt_shared_negative_list_entries');
  await eventually(() => now() === entries, `${entries} entries of other pods in ${name}`, 60_000);
}

const plainFor = (reason: string): Outcome => ({ plain: 1, fallbacks: { [reason]: 1 } });

test('what one pod found spares the others, until it has a success', { skip }, async (t) => {
  const { namespace } = context;
  const path = `-d ${namespace.address('server', 4)} -p tcp --syn --tcp-option 253 -j DROP`.split(' ');
  const rule = (action: string): void => {
    cluster.nodes.node1.runInNetwork('iptables', ['-t', 'mangle', action, 'FORWARD', ...path]);
  };
  const elsewhere = new TestNamespace(cluster, 'negative-list-elsewhere');
  t.after(() => elsewhere.remove());
  await elsewhere.start([pod({ name: 'stranger', node: 'node1' })]);
  rule('-I');
  try {
    assert.deepEqual(await fetch(namespace, 'first'), plainFor('syn_timeout'));
    assert.deepEqual(await fetch(namespace, 'first'), plainFor('syn_timeout'));
    assert.deepEqual(await fetch(namespace, 'first'), plainFor('negative_list'));
    await told(namespace, 'second', 1);
    assert.deepEqual(await fetch(namespace, 'second'), plainFor('negative_list'));
    await namespace.start([pod({ name: 'late', node: 'node1' })]);
    await told(namespace, 'late', 1);
    assert.deepEqual(await fetch(namespace, 'late'), plainFor('negative_list'));
    assert.deepEqual(await fetch(elsewhere, 'stranger'), plainFor('syn_timeout'), 'of another namespace');
  } finally {
    rule('-D');
  }
  assert.deepEqual(await fetch(namespace, 'server', 'first'), { encrypted: 1 });
  await told(namespace, 'second', 0);
  assert.deepEqual(await fetch(namespace, 'second'), { encrypted: 1 });
});
