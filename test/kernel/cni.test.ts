/**
 * The plugin and the agent's verbs in real network namespaces: called by the CNI project's own cnitool, at the end of
 * a chain with its reference plugins. Both variants of iptables.
 */
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { openNamespace } from '../../cni/agent/namespace-handle.ts';
import { sidecarRules } from '../../cni/agent/rule-options.ts';
import { perform } from '../../cni/agent/verbs.ts';
import { build } from '../../cni/executable/testing.ts';
import { ownRules, save, VARIANTS } from '../../netfilter/iptables.ts';
import { DEFAULT_INJECT_MARK, DEFAULT_MASK } from '../../netfilter/marks.ts';
import { verify } from '../../netfilter/namespace.ts';
import { parseArguments } from '../../sidecar/runtime/arguments.ts';
import { buildPrograms, isSetUp } from '../cluster/programs.ts';
import { CniNode, injected, uninjected } from './support/cni-node.ts';
import { type Host, requireRoot } from './support/namespaces.ts';

const skip = isSetUp() ? false : 'needs scripts/setup cluster: Go, and etcd for the API server';

before(async () => {
  if (skip) return;
  build();
  await buildPrograms(['cnitool', 'ptp', 'host-local']);
});

const rules = { ...sidecarRules([]), dataWhenNoState: true, untrackOthers: true };
const liberal = 'net.netfilter.nf_conntrack_tcp_be_liberal';

const fail = (): never => assert.fail('there is no attachment');
const gc = {
  command: 'GC',
  ...{ containerId: '', netns: '', interfaceName: '' },
  pod: { namespace: '', name: '', uid: '' },
} as const;

/** Chains of ours by variant and family; empty if there are none. */
async function chainsIn(pod: Host): Promise<string[]> {
  const found: string[] = [];
  for (const variant of VARIANTS) {
    for (const family of [4, 6] as const) {
      const own = ownRules(await save({ netns: pod.nsPath }, family, variant));
      if (own.some(({ chains }) => chains.length > 0)) found.push(`${variant} ${family}`);
    }
  }
  return found;
}

for (const variant of VARIANTS) {
  describe(`a pod's life, iptables ${variant}`, { skip }, () => {
    for (const cniVersion of ['0.4.0', '1.0.0', '1.1.0']) {
      test(`ADD, CHECK, DEL in version ${cniVersion}`, async (t) => {
        if (!requireRoot(t)) return;
        await using node = await new CniNode({ cniVersion, variant }).startAgent();
        const pod = node.lab.host('pod');
        const added = await node.cni('add', pod);
        assert.equal(added.status, 0, added.stderr);
        // The chain's result is the interface plugin's: two addresses, passed on by ours.
        const result = JSON.parse(added.stdout) as { cniVersion: string; ips: { address: string }[] };
        assert.equal(result.cniVersion, cniVersion);
        assert.equal(result.ips.length, 2);
        assert.match(pod.ip('addr', 'show', 'eth0'), /10\.98\.7\.\d+\/24[\s\S]*fd98:7::/);

        assert.deepEqual(await chainsIn(pod), [`${variant} 4`, `${variant} 6`]);
        assert.deepEqual(await verify(rules, { netns: pod.nsPath, variant }), []);
        assert.equal(pod.sysctl(liberal), '1');
        assert.equal((await node.cni('check', pod)).status, 0);

        // ADD of what is there changes nothing, not even what was there before.
        const [first] = node.attachments.all();
        const prevResult = JSON.parse(added.stdout);
        const again = await node.plugin('ADD', pod, { prevResult });
        assert.equal(again.status, 0, again.stderr);
        assert.deepEqual(JSON.parse(again.stdout), prevResult);
        assert.deepEqual(node.attachments.all(), [first]);
        assert.deepEqual(node.leftAlone, []);
        pod.run(`ip6tables-${variant}`, ['-t', 'mangle', '-F', 'TCPCRYPT_OUT']);
        const broken = await node.cni('check', pod);
        assert.notEqual(broken.status, 0);
        assert.match(broken.stderr + broken.stdout, /rules differ[\s\S]*TCPCRYPT_OUT/);

        const deleted = await node.cni('del', pod);
        assert.equal(deleted.status, 0, deleted.stderr);
        assert.deepEqual(await chainsIn(pod), []);
        assert.equal(pod.sysctl(liberal), '0');
        assert.deepEqual(node.attachments.all(), []);
        assert.equal(first?.podName, 'cart-0');
        assert.equal((await node.cni('del', pod)).status, 0, 'DEL again succeeds');
      });
    }
  });
}

test('version 0.3.1, which has no CHECK: ADD and DEL', { skip }, async (t) => {
  if (!requireRoot(t)) return;
  await using node = await new CniNode({ cniVersion: '0.3.1' }).startAgent();
  const pod = node.lab.host('pod');
  const added = await node.cni('add', pod);
  assert.equal(added.status, 0, added.stderr);
  assert.equal(JSON.parse(added.stdout).cniVersion, '0.3.1');
  assert.deepEqual(await chainsIn(pod), ['nft 4', 'nft 6']);
  const { status, stdout } = await node.plugin('CHECK', pod, { prevResult: JSON.parse(added.stdout) });
  assert.equal(status, 1);
  assert.equal(JSON.parse(stdout).code, 1, 'incompatible version');
  assert.equal((await node.cni('del', pod)).status, 0);
  assert.deepEqual(await chainsIn(pod), []);
});

describe('what a pod gets', { skip }, () => {
  test('without a sidecar: nothing', async (t) => {
    if (!requireRoot(t)) return;
    await using node = await new CniNode({ pod: uninjected }).startAgent();
    const pod = node.lab.host('pod');
    assert.equal((await node.cni('add', pod)).status, 0);
    assert.deepEqual(await chainsIn(pod), []);
    assert.equal((await node.cni('check', pod)).status, 0);
  });

  test('not known to the agent, or of another runtime: nothing, and it starts', async (t) => {
    if (!requireRoot(t)) return;
    await using node = await new CniNode().startAgent();
    const [unknown, other] = [node.lab.host('pod'), node.lab.host('other')];
    assert.equal((await node.cni('add', other, { CNI_ARGS: 'IgnoreUnknown=1' })).status, 0);
    node.pod = undefined;
    assert.equal((await node.cni('add', unknown)).status, 0);
    for (const pod of [unknown, other]) assert.deepEqual(await chainsIn(pod), []);
  });

  test('the rules that its sidecar serves', async (t) => {
    if (!requireRoot(t)) return;
    const args = ['--first-queue=700', '--strict', '--exclude-port', '25', '--mark-mask=0x003f0000'];
    await using node = await new CniNode({ pod: injected(...args) }).startAgent();
    const pod = node.lab.host('pod');
    assert.equal((await node.cni('add', pod)).status, 0);
    const saved = pod.run('iptables-nft-save').stdout;
    assert.match(saved, /--queue-num 700\n/);
    assert.match(saved, /--ports 25 -j RETURN/);
    assert.match(saved, /0x3f0000/);
  });

  for (const [what, change, reason] of [
    [
      'another mesh in it',
      (pod: Host) => pod.run('iptables-nft', ['-t', 'nat', '-N', 'ISTIO_OUTPUT']),
      'other_mesh',
    ],
    ['a node that cannot do it', (_: Host, node: CniNode) => (node.supported = false), 'unsupported'],
  ] as const) {
    test(`with ${what}: it starts without rules, unless it is Strict`, async (t) => {
      if (!requireRoot(t)) return;
      await using node = await new CniNode().startAgent();
      const pod = node.lab.host('pod');
      change(pod, node);
      assert.equal((await node.cni('add', pod)).status, 0);
      assert.deepEqual(await chainsIn(pod), []);
      await using strict = await new CniNode({ pod: injected('--strict') }).startAgent();
      const other = strict.lab.host('pod');
      change(other, strict);
      const refused = await strict.cni('add', other);
      assert.notEqual(refused.status, 0);
      assert.match(refused.stdout + refused.stderr, /rules of a Strict pod could not be put in/);
      assert.deepEqual([node.leftAlone, strict.leftAlone], [[reason], [reason]]);
    });
  }

  test('never the rules in the namespace of the node', () => {
    for (const path of ['/proc/1/ns/net', '/proc/self/ns/net', '/proc/1/ns/mnt', '/etc/hostname', '/etc']) {
      assert.throws(() => openNamespace(path), { code: 'ERR_TCPCRYPT_NAMESPACE' }, path);
    }
    for (const path of ['/run/netns/gone', '/proc/4194305/ns/net'])
      assert.equal(openNamespace(path), undefined);
  });
});

describe('what is undone', { skip }, () => {
  test('DEL and CHECK of a namespace that is gone succeed', async (t) => {
    if (!requireRoot(t)) return;
    await using node = await new CniNode().startAgent();
    const pod = node.lab.host('pod');
    await node.cni('add', pod);
    const [{ containerId, interfaceName, netns } = fail()] = node.attachments.all();
    const attached = { containerId, interfaceName, netns, network: node.network };
    node.host.run('ip', ['netns', 'del', pod.name]);
    assert.equal((await perform({ ...gc, ...attached, command: 'CHECK' }, node.parts)).code, 0);
    const deleted = await node.cni('del', pod);
    assert.equal(deleted.status, 0, deleted.stderr);
    assert.deepEqual(node.attachments.all(), []);
  });

  test('rules stay while a socket could still send: they end with the namespace', async (t) => {
    if (!requireRoot(t)) return;
    await using node = await new CniNode().startAgent();
    const pod = node.lab.host('pod');
    await node.cni('add', pod);
    const script = `import socket,time
l=socket.create_server(("127.0.0.1",9));c=socket.create_connection(("127.0.0.1",9));print("up",flush=True);time.sleep(60)`;
    const child = pod.spawn('python3', ['-c', script]);
    await new Promise((resolve) => child.stdout?.once('data', resolve));
    assert.equal((await node.cni('del', pod)).status, 0);
    assert.deepEqual(await chainsIn(pod), ['nft 4', 'nft 6']);
    assert.deepEqual(node.attachments.all(), []);
  });

  test('GC of a runtime that names nothing and knows its attachments: DEL of each', async (t) => {
    if (!requireRoot(t)) return;
    await using node = await new CniNode({ cniVersion: '1.1.0' }).startAgent();
    const pods = [node.lab.host('one'), node.lab.host('two')];
    for (const pod of pods) assert.equal((await node.cni('add', pod)).status, 0);
    const collected = await node.cni('gc', pods[0]!);
    assert.equal(collected.status, 0, collected.stderr);
    assert.deepEqual(node.attachments.all(), []);
    for (const pod of pods) assert.deepEqual(await chainsIn(pod), []);
  });

  test('GC takes out what the runtime does not name, and only of its network', async (t) => {
    if (!requireRoot(t)) return;
    await using node = await new CniNode({ cniVersion: '1.1.0' }).startAgent();
    const [kept, stale] = [node.lab.host('kept'), node.lab.host('stale')];
    for (const pod of [kept, stale]) assert.equal((await node.cni('add', pod)).status, 0);
    assert.equal((await node.cni('status', kept)).status, 0);
    // libcni sends DEL for all that is in its cache and not named; of what it forgot it says nothing, and nothing goes.
    node.forgetAttachments();
    const collected = await node.cni('gc', kept);
    assert.equal(collected.status, 0, collected.stderr);
    assert.equal(node.attachments.all().length, 2);

    const valid = node.attachments.all().filter(({ netns }) => netns === kept.nsPath);
    const gc = (validAttachments: typeof valid, more = {}) => {
      const named = validAttachments.map(({ containerId, interfaceName }) => ({
        ...{ containerID: containerId, ifname: interfaceName },
      }));
      return node.plugin('GC', kept, { 'cni.dev/valid-attachments': named, ...more });
    };
    assert.equal((await gc([], { name: 'other' })).status, 0);
    assert.equal(node.attachments.all().length, 2);
    assert.equal((await gc(valid)).status, 0);
    assert.deepEqual(node.attachments.all(), valid);
    assert.deepEqual(await chainsIn(kept), ['nft 4', 'nft 6']);
    assert.deepEqual(await chainsIn(stale), []);
  });
});

describe('without an agent', { skip }, () => {
  test('Skip: the pod starts, without rules', async (t) => {
    if (!requireRoot(t)) return;
    await using node = new CniNode({ cniVersion: '1.1.0' });
    const pod = node.lab.host('pod');
    for (const verb of ['add', 'check', 'status', 'gc', 'del']) {
      const output = await node.cni(verb, pod);
      assert.equal(output.status, 0, `${verb}: ${output.stderr}`);
    }
    assert.deepEqual(await chainsIn(pod), []);
  });

  test('Fail: it does not, but for the namespaces that are spared; DEL succeeds', async (t) => {
    if (!requireRoot(t)) return;
    await using node = new CniNode({ cniVersion: '1.1.0', entry: { agentUnavailable: 'Fail' } });
    const pod = node.lab.host('pod');
    const added = await node.cni('add', pod);
    assert.notEqual(added.status, 0);
    assert.match(added.stdout + added.stderr, /does not answer/);
    assert.equal((await node.cni('del', pod)).status, 0);
    assert.notEqual((await node.cni('status', pod)).status, 0);
    const spared = { CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAMESPACE=kube-system;K8S_POD_NAME=dns' };
    assert.equal((await node.cni('add', pod, spared)).status, 0);
  });
});

test("the agent reads a sidecar's arguments as the sidecar does", () => {
  const cases = [
    [],
    ['--strict', '--first-queue', '7'],
    ['--workers=4', '--first-queue=100'],
    ['--exclude-port=1:2', '--exclude-port', '99', '--exclude-cidr=10.0.0.0/8', '--exclude-cidr', 'fd00::/8'],
    ['--encoding=legacy', '--mark-mask=0x3f', '--inject-mark', '0x40', '--policy', '/x', '--grace=3'],
  ];
  for (const args of cases) {
    const invocation = parseArguments(['run', ...args]);
    assert.ok(invocation.kind === 'run');
    const { dataWhenNoState: _, ...expected } = invocation.options.rules;
    assert.deepEqual(
      { mask: DEFAULT_MASK, injectMark: DEFAULT_INJECT_MARK, ...sidecarRules(args) },
      expected,
    );
  }
});
