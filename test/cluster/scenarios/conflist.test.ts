/**
 * Network configurations as primary CNI plugins write them, and their habits, on a node with the agent. Their formats
 * and ways of writing: Flannel's from its Documentation/kube-flannel.yml (a ConfigMap, copied by an init container),
 * Calico's from cni-plugin/pkg/install/install.go (written in place), Cilium's from daemon/cmd/cni/config.go (renamed
 * into place, again whenever the folder changes; with `cni.exclusive` all other configurations are renamed away). What
 * they set up is the reference bridge plugin's here.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, test } from 'node:test';
import { ended, eventually } from '../../kernel/support/processes.ts';
import { nodes } from '../addresses.ts';
import { RELEASE_NAMESPACE, useChart } from '../support/chart.ts';
import { fetchLetter, SECRET_SERVER } from '../support/fetch.ts';
import { Agent, condition } from '../support/node.ts';
import { pod } from '../support/pods.ts';
import { sharedCluster as cluster, skip } from '../support/shared.ts';
import { sidecarReady } from '../support/sidecar.ts';

const NODE = 'node2';
const BRIDGE = '10-bridge.conflist';
const root = join(cluster.nodes[NODE].folder, 'root');
const [confDir, binDir] = [join(root, 'etc/cni/net.d'), join(root, 'opt/cni/bin')];
const file = (name: string): string => join(confDir, name);

/** The administrator's own, as it was before the agent came. */
let original = '';
const context = useChart('conflist-test', async (namespace) => {
  original = withoutOurs(readFileSync(file(BRIDGE), 'utf8'));
  for (const name of Object.keys(PRIMARY)) standIn(PRIMARY[name].type);
  await namespace.start([pod({ name: 'server', node: 'node1', command: SECRET_SERVER })]);
  await sidecarReady(namespace, 'server');
});

afterEach(async () => {
  if (skip) return;
  for (const name of readdirSync(confDir)) if (name !== BRIDGE) rmSync(file(name));
  writeFileSync(file(BRIDGE), original);
  await eventually(() => isChained(BRIDGE), 'the entry in the original', 30_000);
});
after(() => {
  for (const { type } of Object.values(PRIMARY)) rmSync(join(binDir, type), { force: true });
});

const pluginsOf = (text: string): { type: string }[] => JSON.parse(text).plugins;
const withoutOurs = (text: string): string =>
  JSON.stringify({
    ...JSON.parse(text),
    plugins: pluginsOf(text).filter(({ type }) => type !== 'tcpcrypt'),
  });

const hasEntry = (name: string): boolean => {
  try {
    return pluginsOf(readFileSync(file(name), 'utf8')).at(-1)?.type === 'tcpcrypt';
  } catch {
    // It is being written.
    return false;
  }
};
const isChained = (name: string): boolean => hasEntry(name) && condition(cluster, NODE)?.reason === 'Chained';

async function restartAgent(): Promise<void> {
  const { name } = new Agent(cluster, NODE);
  cluster.kubectl(['delete', 'pod', name, '-n', RELEASE_NAMESPACE]);
  const back = (): boolean => {
    const agent = new Agent(cluster, NODE);
    return agent.name !== name && agent.isReady();
  };
  await eventually(() => running(back), 'the agent again', 60_000);
}

/** There may be none for a moment. */
function running(ask: () => boolean): boolean {
  try {
    return ask();
  } catch {
    return false;
  }
}

/** A pod on the node starts, and what it fetches is not to be read on the cable. */
async function startsAndEncrypts(name: string): Promise<void> {
  const { namespace } = context;
  await namespace.start([pod({ name, node: NODE })]);
  await sidecarReady(namespace, name);
  const captured = await fetchLetter(namespace, { client: name, server: 'server', node: NODE });
  assert.ok(captured.dataPackets > 100, `only ${captured.dataPackets} packets with data`);
  assert.equal(captured.find('treasure'), undefined, `${name} was served in clear`);
}

interface Primary {
  readonly file: string;
  /** Of the plugin in it that makes the interface. */
  readonly type: string;
  readonly text: string;
  readonly write: (path: string, text: string) => void;
}

const inPlace = (path: string, text: string): void => writeFileSync(path, text);
const byRename = (path: string, text: string): void => {
  writeFileSync(`${path}.new`, text);
  renameSync(`${path}.new`, path);
};

const PRIMARY: Readonly<Record<string, Primary>> = {
  Flannel: {
    ...{ file: '10-flannel.conflist', type: 'flannel', write: inPlace },
    text: `{
  "name": "cbr0",
  "cniVersion": "0.3.1",
  "plugins": [
    {
      "type": "flannel",
      "delegate": {
        "hairpinMode": true,
        "isDefaultGateway": true
      }
    },
    {
      "type": "portmap",
      "capabilities": {
        "portMappings": true
      }
    }
  ]
}
`,
  },
  Calico: {
    ...{ file: '10-calico.conflist', type: 'calico', write: inPlace },
    text: `{
  "name": "k8s-pod-network",
  "cniVersion": "0.3.1",
  "plugins": [
    {
      "type": "calico",
      "log_level": "info",
      "log_file_path": "/var/log/calico/cni/cni.log",
      "datastore_type": "kubernetes",
      "nodename": "node2",
      "mtu": 0,
      "ipam": {"type": "calico-ipam"},
      "policy": {"type": "k8s"},
      "kubernetes": {"kubeconfig": "/etc/cni/net.d/calico-kubeconfig"}
    },
    {"type": "portmap", "snat": true, "capabilities": {"portMappings": true}},
    {"type": "bandwidth", "capabilities": {"bandwidth": true}}
  ]
}`,
  },
  'Cilium, not exclusive': {
    ...{ file: '05-cilium.conflist', type: 'cilium-cni', write: byRename },
    text: `
{
  "cniVersion": "0.3.1",
  "name": "cilium",
  "plugins": [
    {
       "type": "cilium-cni",
       "enable-debug": false,
       "log-file": "/var/run/cilium/cilium-cni.log"
    }
  ]
}`,
  },
};

/** A plugin of that name which makes the interface as the bridge plugin does, with the node's own networks. */
function standIn(type: string): void {
  const { pods4, pods6 } = nodes[NODE];
  const ranges = [[{ subnet: pods4 }], [{ subnet: pods6 }]];
  const routes = [{ dst: '0.0.0.0/0' }, { dst: '::/0' }];
  const made = { bridge: 'cni0', isGateway: true, hairpinMode: true };
  const config = { type: 'bridge', ...made, ipam: { type: 'host-local', ranges, routes } };
  const script = `#!/usr/bin/python3
import json, os, subprocess, sys
given = json.load(sys.stdin)
kept = {name: given[name] for name in ("cniVersion", "name", "prevResult") if name in given}
config = json.dumps({**json.loads('''${JSON.stringify(config)}'''), **kept})
plugin = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bridge")
sys.exit(subprocess.run([plugin], input=config.encode()).returncode)
`;
  writeFileSync(join(binDir, type), script);
  chmodSync(join(binDir, type), 0o755);
}

for (const [name, primary] of Object.entries(PRIMARY))
  test(`as ${name} writes it: the entry comes last, nothing else changes, pods encrypt`, {
    skip,
  }, async () => {
    rmSync(file(BRIDGE));
    primary.write(file(primary.file), primary.text);
    await eventually(() => isChained(primary.file), 'the entry', 30_000);
    const text = readFileSync(file(primary.file), 'utf8');
    assert.deepEqual(pluginsOf(text).slice(0, -1), pluginsOf(primary.text));
    const beforeEntry = text.slice(0, text.indexOf('"tcpcrypt"')).replace(/,[^,]*$/, '');
    assert.ok(primary.text.startsWith(beforeEntry), text);
    await startsAndEncrypts(`with-${primary.type}`);
    // It starts anew, and writes its file as it did at first.
    primary.write(file(primary.file), primary.text);
    await eventually(() => isChained(primary.file), 'the entry again', 30_000);
  });

/** What Cilium's agent does with `cni.exclusive`, in a shell: looks ten times a second instead of watching. */
function exclusiveCilium({ file: own, text }: Primary): ChildProcess {
  const script = `cd "$1"; while :; do
  [ "$(cat "$2" 2>/dev/null; echo .)" = "$3." ] || { printf %s "$3" >.cilium-new; mv .cilium-new "$2"; }
  for other in *.conf *.conflist *.json; do
    [ "$other" = "$2" ] || [ ! -e "$other" ] || mv "$other" "$other.cilium_bak"
  done
  sleep 0.1
done`;
  return spawn('sh', ['-c', script, 'sh', confDir, own, text]);
}

test('who throws the entry out again and again wins: the node says so, and pods encrypt without', {
  skip,
}, async () => {
  const primary = PRIMARY['Cilium, not exclusive'];
  const habit = exclusiveCilium(primary);
  try {
    await eventually(
      () => /thrown out/.test(condition(cluster, NODE)?.message ?? ''),
      'the condition WithoutChaining',
      60_000,
    );
    const { status, reason } = condition(cluster, NODE) ?? {};
    assert.deepEqual([status, reason], ['True', 'WithoutChaining']);
    assert.equal(existsSync(file(BRIDGE)), false, 'the imitation does not do what it should');
    await startsAndEncrypts('without-chaining');
    const agent = new Agent(cluster, NODE);
    await eventually(() => agent.programmedPods() > 0, 'the rules of the agent', 30_000);
    assert.equal(readFileSync(file(primary.file), 'utf8'), primary.text, 'the agent goes on fighting');
  } finally {
    await ended(habit, 'SIGKILL');
  }
  // It is given another chance when it starts anew.
  await restartAgent();
  await eventually(() => isChained(primary.file), 'the entry again', 30_000);
});

test('several lists: each has the entry, and a plain .conf is left as it is', { skip }, async () => {
  const plain = JSON.stringify({ cniVersion: '0.3.1', name: 'plain', type: 'loopback' });
  writeFileSync(file('99-loopback.conf'), plain);
  writeFileSync(file('50-other.conflist'), original.replace('"name":"pods"', '"name":"others"'));
  await eventually(() => isChained('50-other.conflist') && isChained(BRIDGE), 'the entry in both', 30_000);
  assert.equal(readFileSync(file('99-loopback.conf'), 'utf8'), plain);
  await startsAndEncrypts('with-several');
});

test('a plain .conf in front: nothing can be added, the node says so, and pods encrypt', {
  skip,
}, async () => {
  const { plugins, ...list } = JSON.parse(original);
  writeFileSync(file('00-first.conf'), JSON.stringify({ ...list, ...plugins[0] }));
  await eventually(() => condition(cluster, NODE)?.reason === 'WithoutChaining', 'the condition', 30_000);
  assert.match(condition(cluster, NODE)?.message ?? '', /00-first.conf is no list/);
  await startsAndEncrypts('with-plain-conf');
});

test('a primary plugin that comes late: the entry follows it', { skip }, async () => {
  rmSync(file(BRIDGE));
  await restartAgent();
  await eventually(
    () => /there is no network configuration/.test(condition(cluster, NODE)?.message ?? ''),
    'the condition without a network',
    30_000,
  );
  writeFileSync(file(BRIDGE), original);
  await eventually(() => isChained(BRIDGE), 'the entry', 30_000);
  await startsAndEncrypts('after-the-network');
});
