/** The node agent killed, hung, upgraded, and with either variant of iptables: pods start, and their traffic goes on. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventually } from '../../kernel/support/processes.ts';
import { helm, installChart, RELEASE_NAMESPACE, useChart } from '../support/chart.ts';
import { fetchWhole, inTheMiddle, SECRET_SERVER } from '../support/fetch.ts';
import { Agent, pluginsIn } from '../support/node.ts';
import { pod } from '../support/pods.ts';
import { sharedCluster as cluster, skip } from '../support/shared.ts';
import { sidecarReady } from '../support/sidecar.ts';

const ends = { client: 'client', server: 'server', node: 'node1' } as const;
const context = useChart('agent-test', async (namespace) => {
  await namespace.start([
    pod({ name: 'client', node: 'node1' }),
    pod({ name: 'server', node: 'node2', command: SECRET_SERVER }),
  ]);
  for (const name of ['client', 'server']) await sidecarReady(namespace, name);
});

/** Starts a pod on node1 and lets it fetch the letter; that it is encrypted is for the capture around it to say. */
async function startAndFetch(name: string): Promise<void> {
  const { namespace } = context;
  await namespace.start([pod({ name, node: 'node1' })]);
  await sidecarReady(namespace, name);
  fetchWhole(namespace, { client: name, server: 'server' });
}

test('killed: connections go on, pods that start meanwhile encrypt, and it comes back', {
  skip,
}, async () => {
  const agent = new Agent(cluster, 'node1');
  const before = agent.process();
  await inTheMiddle(context.namespace, ends, async () => {
    agent.signal('KILL');
    await startAndFetch('while-killed');
    await eventually(() => agent.isReady() && agent.process() !== before, 'another process', 60_000);
    await eventually(() => agent.programmedPods() === 2, 'both pods known to it', 30_000);
  });
  assert.deepEqual(pluginsIn(cluster, 'node1').slice(-1), ['tcpcrypt']);
});

test('hung, Skip: a pod starts within the deadline of the plugin, and encrypts', { skip }, async () => {
  const agent = new Agent(cluster, 'node1');
  await inTheMiddle(context.namespace, ends, async () => {
    agent.signal('STOP');
    try {
      await startAndFetch('while-hung');
      assert.equal(agent.state(), 'T', 'it was not hung all the while');
    } finally {
      agent.signal('CONT');
    }
    await eventually(() => agent.programmedPods() === 3, 'all pods known to it', 30_000);
  });
});

test('hung, Fail: no pod starts but those that are spared; all others do when it is back', {
  skip,
}, async () => {
  const { namespace } = context;
  const set = ['nodeAgent.cni.agentUnavailable=Fail', 'injection.excludedNamespaces={spared}'];
  await installChart(cluster, set);
  cluster.kubectl(['create', 'namespace', 'spared']);
  const inNamespace = (name: string, spec = {}): object => {
    const made = pod({ name: `in-${name}`, node: 'node1', spec }) as { metadata: object };
    return { ...made, metadata: { ...made.metadata, namespace: name } };
  };
  const spared = ['kube-system', 'spared'];
  const agent = new Agent(cluster, 'node1');
  await eventually(() => agent.isReady(), 'the agent with the new settings', 30_000);
  agent.signal('STOP');
  try {
    const onTheHost = pod({ name: 'on-the-host', node: 'node1', spec: { hostNetwork: true } });
    cluster.apply([...spared.map((name) => inNamespace(name))]);
    namespace.kubectl(['apply', '-f', '-'], {
      input: JSON.stringify(pod({ name: 'refused', node: 'node1' })),
    });
    await namespace.start([onTheHost]);
    for (const name of spared)
      cluster.kubectl(['wait', '--for=condition=Ready', '--timeout=60s', `pod/in-${name}`, '-n', name]);
    const events = () =>
      namespace.kubectl(['get', 'events', '--field-selector', 'involvedObject.name=refused']).stdout;
    await eventually(() => /FailedCreatePodSandBox.*does not answer/.test(events()), 'the refusal', 30_000);
    // DEL succeeds: pods can go.
    for (const name of spared) cluster.kubectl(['delete', 'pod', `in-${name}`, '-n', name, '--timeout=60s']);
    assert.equal(agent.state(), 'T', 'it was not hung all the while');
  } finally {
    agent.signal('CONT');
  }
  namespace.ready(['pod/refused']);
  cluster.kubectl(['delete', 'namespace', 'spared', '--wait=false']);
  helm(cluster, ['rollback', 'tcpcrypt', '--wait']);
});

test('upgraded: the entry is there all the while, connections go on, and pods that start encrypt', {
  skip,
}, async () => {
  await inTheMiddle(context.namespace, ends, async () => {
    const before = new Agent(cluster, 'node1').name;
    const agents = ['-n', RELEASE_NAMESPACE, 'rollout'];
    cluster.kubectl([...agents, 'restart', 'daemonset/tcpcrypt-node-agent']);
    const status = () =>
      cluster.kubectl([...agents, 'status', 'daemonset/tcpcrypt-node-agent', '--watch=false']).stdout;
    for (let i = 1; !status().includes('successfully rolled out'); i++) {
      assert.deepEqual(pluginsIn(cluster, 'node1').slice(-1), ['tcpcrypt']);
      if (i <= 3) await startAndFetch(`while-upgraded-${i}`);
    }
    assert.notEqual(new Agent(cluster, 'node1').name, before);
  });
});

test('rules by iptables-nft; by iptables-legacy where it is asked for, also those of older pods', {
  skip,
}, async () => {
  const { namespace } = context;
  const variants = ['nft', 'legacy'] as const;
  const hasChains = (name: string, variant: string): boolean => {
    const save = [`iptables-${variant}-save`, '-t', 'mangle'];
    return /TCPCRYPT_OUT/.test(namespace.exec(`${name}/tcpcrypt`, save).stdout);
  };
  const areIn = (name: string, own: (typeof variants)[number]): boolean =>
    variants.every((variant) => hasChains(name, variant) === (variant === own));
  assert.ok(areIn('client', 'nft'));
  await installChart(cluster, ['nodeAgent.iptables=legacy']);
  await eventually(
    () => areIn('client', 'legacy'),
    'the rules of the older pod in the other variant',
    60_000,
  );
  await inTheMiddle(namespace, ends, () => startAndFetch('with-legacy'));
  assert.ok(areIn('with-legacy', 'legacy'));
});
