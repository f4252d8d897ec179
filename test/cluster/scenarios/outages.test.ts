/** Parts of the product that die, hang or are away, while pods work. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { outcomeOf } from '../../kernel/support/outcome.ts';
import { eventually } from '../../kernel/support/processes.ts';
import { podCidrs } from '../addresses.ts';
import { injects, operatorPods, scaleOperator, useChart, waitForParts } from '../support/chart.ts';
import { assertSame, assertSecret, fetchLetter, SECRET_SERVER } from '../support/fetch.ts';
import { pod, TestNamespace } from '../support/pods.ts';
import { podProcesses, signal } from '../support/processes.ts';
import { sharedCluster as cluster, skip } from '../support/shared.ts';
import { encryptedAtBothEnds, Sidecar } from '../support/sidecar.ts';

const ENDS = { client: 'client', server: 'server', node: 'node1' } as const;
const STEP_BYTES = 5_000_000;
const WEBHOOK_PORT = 10250;

const context = useChart('outages-test', (namespace) =>
  namespace.start([
    pod({ name: 'client', node: 'node1' }),
    pod({ name: 'server', node: 'node2', command: SECRET_SERVER }),
  ]),
);

test('sidecars killed with SIGKILL three times in one download: it arrives whole, and nothing in clear', {
  skip,
}, async () => {
  const { namespace } = context;
  const captured = await fetchLetter(namespace, ENDS, async (download) => {
    const [before] = await encryptedAtBothEnds(namespace, 'client', 'server', 80);
    for (const name of ['client', 'server', 'client']) {
      const sidecar = new Sidecar(namespace, name);
      const killed = sidecar.rewriter();
      const read = download.read(STEP_BYTES);
      signal(sidecar.node, killed, 'KILL');
      await sidecar.restarted(killed);
      await read;
    }
    assertSame(namespace, 'client', before);
  });
  assertSecret(captured);
  // The container never ended: the supervisor started its rewriter again.
  for (const name of ['client', 'server'])
    assert.equal(namespace.pod(name).status.initContainerStatuses?.[0]?.restartCount, 0);
});

test('the whole container is killed in a download: the kubelet starts it again, and it goes on', {
  skip,
}, async () => {
  const { namespace } = context;
  const sidecar = new Sidecar(namespace, 'client');
  const captured = await fetchLetter(namespace, ENDS, async (download) => {
    const [before] = await encryptedAtBothEnds(namespace, 'client', 'server', 80);
    const rewriter = sidecar.rewriter();
    const read = download.read(2 * STEP_BYTES);
    signal(sidecar.node, sidecar.supervisor(), 'KILL');
    await sidecar.restarted(rewriter);
    await read;
    assertSame(namespace, 'client', before);
  });
  assertSecret(captured);
});

for (const end of ['client', 'server'] as const)
  test(`conntrack forgets everything while the ${end}'s sidecar is stopped: bytes right, nothing in clear`, {
    skip,
  }, async () => {
    const { namespace } = context;
    const sidecar = new Sidecar(namespace, end);
    const captured = await fetchLetter(namespace, ENDS, async (download) => {
      const [{ local }] = await encryptedAtBothEnds(namespace, 'client', 'server', 80);
      const rewriter = sidecar.rewriter();
      const inPod = (...command: string[]): string =>
        sidecar.node.run('nsenter', ['--net', '--target', String(rewriter.pid), ...command]).stdout;
      const entries = (): string =>
        inPod('conntrack', '-L', '-p', 'tcp', '--sport', local.split(':').at(-1)!);
      const read = download.read(2 * STEP_BYTES);
      signal(sidecar.node, rewriter, 'STOP');
      try {
        assert.match(entries(), /ESTABLISHED/);
        inPod('conntrack', '-D', '-p', 'tcp');
        assert.doesNotMatch(entries(), /ESTABLISHED/);
        // Third column: what a queue holds. Whatever the kernels send now has no entry.
        const held = () => /^ *\d+ +\d+ +[1-9]/m.test(inPod('cat', '/proc/net/netfilter/nfnetlink_queue'));
        await eventually(held, 'a packet that waits', 30_000);
      } finally {
        signal(sidecar.node, rewriter, 'CONT');
      }
      await read;
    });
    assertSecret(captured);
  });

test('the operator is away: what runs is encrypted as before, new pods start without', { skip }, async () => {
  const { namespace } = context;
  const enforced = new TestNamespace(cluster, 'outages-enforced-test', { 'tcpcrypt.io/enforce': 'strict' });
  await scaleOperator(cluster, 0);
  try {
    const sidecar = new Sidecar(namespace, 'client');
    const killed = sidecar.rewriter();
    signal(sidecar.node, killed, 'KILL');
    await sidecar.restarted(killed);
    const [, mine] = await outcomeOf([sidecar], async () => namespace.fetch('client', url()));
    assert.equal(mine.encrypted, 1);
    await startsPlain(namespace, 'without-operator');
    // Where plain pods are not wanted the webhook fails closed.
    await assert.rejects(enforced.start([pod({ name: 'refused', node: 'node1' })]), /failed calling webhook/);
  } finally {
    enforced.remove();
    await scaleOperator(cluster, 2);
  }
  const events = () =>
    namespace.events('TcpcryptNotInjected').map(({ involvedObject }) => involvedObject.name);
  await eventually(() => events().includes('without-operator'), 'the event', 60_000);
  await eventually(() => injects(namespace), 'a pod injected', 60_000);
});

test('the webhook cannot be reached: its packets are dropped', { skip }, async () => {
  const { namespace } = context;
  const rule = (how: '-A' | '-D'): void => {
    for (const [i, iptables] of ['iptables', 'ip6tables'].entries()) {
      const match = ['-d', podCidrs[i]!, '-p', 'tcp', '--dport', String(WEBHOOK_PORT)];
      cluster.control.run(iptables, ['-w', how, 'OUTPUT', ...match, '-j', 'DROP']);
    }
  };
  rule('-A');
  try {
    await startsPlain(namespace, 'unreachable');
  } finally {
    rule('-D');
  }
  await eventually(() => injects(namespace), 'a pod injected', 90_000);
});

test('the webhook is slow: every operator stands still', { skip }, async () => {
  const { namespace } = context;
  const stopped = operatorPods(cluster).flatMap(({ metadata, spec }) => {
    const node = cluster.nodes[spec.nodeName];
    return podProcesses(node, metadata.uid)
      .filter(({ commandLine }) => commandLine.includes('operator'))
      .map((process) => [node, process] as const);
  });
  assert.equal(stopped.length, 2);
  try {
    for (const [node, process] of stopped) signal(node, process, 'STOP');
    await startsPlain(namespace, 'slow');
  } finally {
    for (const [node, process] of stopped) signal(node, process, 'CONT');
  }
  await eventually(() => injects(namespace), 'a pod injected', 90_000);
  waitForParts(cluster);
});

const url = (): string => `http://${context.namespace.address('server', 4)}/`;

/** A pod is made, gets ready and talks, without a sidecar. */
async function startsPlain(namespace: TestNamespace, name: string): Promise<void> {
  await namespace.start([pod({ name, node: 'node1' })]);
  assert.deepEqual(namespace.pod(name).spec.initContainers ?? [], []);
  assert.match(namespace.fetch(name, url()), /nginx/);
}
