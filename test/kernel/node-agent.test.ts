/** The node agent as a process, with the rights that its documentation lists, and real sidecars. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { build } from '../../cni/executable/testing.ts';
import { ownRules, save } from '../../netfilter/iptables.ts';
import { isSetUp } from '../cluster/programs.ts';
import { AgentNode, DAEMONSET, NODE, RELEASE, type TestPod } from './support/agent-node.ts';
import { parseMetrics } from './support/metrics.ts';
import { requireRoot } from './support/namespaces.ts';
import { eventually } from './support/processes.ts';

const skip = isSetUp() ? false : 'needs scripts/setup cluster: Go, and etcd for the API server';

before(() => {
  if (!skip) build();
});

const conflist = JSON.stringify({ cniVersion: '1.0.0', name: 'pods', plugins: [{ type: 'bridge' }] });

async function hasRules({ host }: TestPod): Promise<boolean> {
  const own = ownRules(await save({ netns: host.nsPath }, 4, 'nft'));
  return own.some(({ chains }) => chains.length > 0);
}

test('a node with its agent, from installation to uninstallation', { skip, timeout: 300_000 }, async (t) => {
  if (!requireRoot(t)) return;
  await using node = await AgentNode.start();
  const file = join(node.conf, '10-pods.conflist');
  writeFileSync(file, conflist);
  const types = (): string[] =>
    JSON.parse(readFileSync(file, 'utf8')).plugins.map(({ type }: { type: string }) => type);
  const condition = async () => {
    const { metadata, status } = await node.core.readNode({ name: NODE });
    const found = status?.conditions?.find(({ type }) => type === 'TcpcryptReady');
    return [metadata?.labels?.['tcpcrypt.io/node'], found?.status, found?.reason];
  };
  const metric = async (name: string, labels: Record<string, string>): Promise<number> =>
    parseMetrics(await node.get('/metrics'))
      .filter((sample) => sample.name === name)
      .filter((sample) => Object.entries(labels).every(([key, value]) => sample.labels[key] === value))
      .reduce((sum, { value }) => sum + value, 0);

  await t.test('it installs the plugin, and says so on the node', async () => {
    await node.startAgent();
    assert.deepEqual(types(), ['bridge', 'tcpcrypt']);
    assert.ok(existsSync(join(node.bin, 'tcpcrypt')));
    await eventually(async () => (await condition())[2] === 'Chained', 'the condition');
    assert.deepEqual(await condition(), ['supported', 'True', 'Chained']);
  });

  const policy = {
    mode: 'Opportunistic',
    rules: [{ direction: 'Both', ports: [{ port: 9999 }], mode: 'Disabled' }],
  };
  await node.render([
    { podSelector: { matchLabels: { app: 'other' } }, policy: { mode: 'Disabled' } },
    { podSelector: {}, policy },
  ]);
  const web = await node.createPod('web', { app: 'web' });
  const client = await node.createPod('client', { app: 'client' });
  node.lab.link(client.host, web.host);

  await t.test('a CNI call for a pod that has only just come puts its rules in', async () => {
    const added = await node.cni('ADD', web);
    assert.equal(added.status, 0, added.stdout + added.stderr);
    assert.equal(await hasRules(web), true, node.log);
  });

  await t.test('a pod that no call was made for gets its rules when its sidecar runs', async () => {
    await node.startSidecar(web);
    assert.equal(await hasRules(client), false);
    await node.startSidecar(client);
    await eventually(() => hasRules(client), 'rules in the other pod', 20_000);
  });

  await t.test('the sidecars have the policy that selects them', async () => {
    await eventually(
      async () => (await metric('tcpcrypt_agent_pods', { state: 'programmed' })) === 2,
      'both programmed',
      20_000,
    );
    for (const { name } of [web, client]) {
      const kept = JSON.parse(readFileSync(join(node.folder, `s-${name}`, 'last-policy'), 'utf8'));
      assert.deepEqual(kept, policy);
    }
  });

  await t.test('their connections are encrypted, and counted by namespace', async () => {
    const server = web.host.spawnNode('-e', [
      "require('net').createServer((s)=>s.end('hello')).listen(8080,'0.0.0.0',()=>console.log('up'))",
    ]);
    await new Promise((resolve) => server.stdout?.once('data', resolve));
    for (let i = 0; i < 3; i++) {
      const { stdout } = client.host.run('curl', ['--http0.9', '-s', `http://${web.host.address4()}:8080/`], {
        allowFailure: true,
      });
      assert.equal(stdout, 'hello');
    }
    const all = { namespace: 'shop', outcome: 'encrypted' };
    await eventually(
      async () => (await metric('tcpcrypt_namespace_connections_total', all)) === 6,
      'six ends',
      20_000,
    );
  });

  await t.test(
    'a policy that changes is there within a moment; one that is wrong changes nothing',
    async () => {
      const kept = () => JSON.parse(readFileSync(join(node.folder, 's-web', 'last-policy'), 'utf8'));
      await node.render([{ podSelector: {}, policy: { mode: 'Audit' } }]);
      await eventually(() => kept().mode === 'Audit', 'the new policy', 20_000);
      await node.render([{ podSelector: {}, policy: { mode: 'Wrong' } }]);
      await eventually(
        async () => (await metric('tcpcrypt_agent_policy_pushes_total', { result: 'refused' })) >= 2,
        'both refused',
        20_000,
      );
      assert.equal(kept().mode, 'Audit');
    },
  );

  await t.test('rules that somebody takes out come back', async () => {
    web.host.run('iptables-nft', ['-t', 'mangle', '-F', 'TCPCRYPT_OUT']);
    web.host.run('iptables-nft', ['-t', 'raw', '-F']);
    await eventually(
      async () => (await node.cni('CHECK', web)).status === 0,
      'the rules as they were',
      30_000,
    );
    assert.ok((await metric('tcpcrypt_agent_rules_mended_total', { result: 'success' })) >= 1);
  });

  await t.test('rules that a sidecar put in itself are kept as they are', async () => {
    const mended = await metric('tcpcrypt_agent_rules_mended_total', {});
    const own = await node.createPod('own');
    await node.startSidecar(own, '--ensure-rules');
    assert.equal(await hasRules(own), true);
    const programmed = async () => (await metric('tcpcrypt_agent_pods', { state: 'programmed' })) === 3;
    // The policy of the test before is refused: a right one makes all three programmed.
    await node.render([{ podSelector: {}, policy: { mode: 'Opportunistic' } }]);
    await eventually(programmed, 'the third pod', 30_000);
    assert.equal(await metric('tcpcrypt_agent_rules_mended_total', {}), mended);
  });

  await t.test('an entry thrown out comes back', async () => {
    writeFileSync(file, conflist);
    await eventually(() => types().includes('tcpcrypt'), 'the entry');
  });

  await t.test('hung, it is as good as absent', async () => {
    node.signalAgent('SIGSTOP');
    const added = await node.cni('ADD', web);
    node.signalAgent('SIGCONT');
    assert.equal(added.status, 0);
    assert.match(added.stderr, /no answer in time/);
  });

  await t.test(
    'killed and started again it knows its pods; a stop without uninstallation changes nothing',
    async () => {
      await node.stopAgent('SIGKILL');
      await node.startAgent();
      const programmed = async () => (await metric('tcpcrypt_agent_pods', { state: 'programmed' })) === 3;
      await eventually(programmed, 'sidecars that are older than it', 20_000);
      assert.equal((await node.cni('CHECK', web)).status, 0);
      assert.equal(await node.stopAgent(), 0, node.log);
      assert.deepEqual(types(), ['bridge', 'tcpcrypt']);
      assert.ok(existsSync(join(node.bin, 'tcpcrypt')));
      assert.equal(await hasRules(web), true);
      const without = await node.cni('ADD', web);
      assert.equal(without.status, 0);
      assert.match(without.stderr, /skipped/);
    },
  );

  const ours = { name: DAEMONSET, namespace: RELEASE };
  for (const [what, remove, restore] of [
    ['the rights gone', () => node.rbac.deleteNamespacedRoleBinding(ours), () => node.bindRole()],
    ['the DaemonSet gone', () => node.apps.deleteNamespacedDaemonSet(ours), () => node.createDaemonSet()],
    // Nothing of it is removed here: there are no controllers.
    ['the namespace going', () => node.core.deleteNamespace({ name: RELEASE }), () => {}],
  ] as const) {
    await t.test(`a stop with ${what} is the uninstallation`, async () => {
      await node.startAgent();
      await eventually(() => types().includes('tcpcrypt'), 'the entry');
      await remove();
      assert.equal(await node.stopAgent(), 0, node.log);
      assert.equal(readFileSync(file, 'utf8'), conflist);
      assert.equal(existsSync(join(node.bin, 'tcpcrypt')), false);
      assert.deepEqual(await condition(), [undefined, undefined, undefined]);
      assert.equal(await hasRules(web), true, 'running pods keep theirs');
      await restore();
    });
  }
});
