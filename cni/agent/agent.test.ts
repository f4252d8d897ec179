/** The small pure parts, and what the documentation says of them. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { Capabilities } from '../../netfilter/namespace.ts';
import { temporaryFolder } from '../executable/testing.ts';
import { type Attachment, Attachments } from './attachments.ts';
import { options, parseCommand } from './commands.ts';
import type { InstallerStatus } from './installer/installer.ts';
import { metrics } from './metrics.ts';
import { nodeState } from './node-status.ts';
import { readPod } from './pod.ts';
import { Turns } from './turns.ts';

const document = (name: string): string =>
  readFileSync(new URL(`../../docs/${name}`, import.meta.url), 'utf8');

describe('the command line', () => {
  const environment = { NODE_NAME: 'node-1', POD_NAMESPACE: 'tcpcrypt-system' };
  const parsed = (...args: string[]) => {
    const invocation = parseCommand(['run', ...args], environment);
    assert.ok(invocation.kind === 'run');
    return invocation.options;
  };

  test('as the chart writes it', () => {
    const run = parsed(
      '--daemonset=agent',
      '--agent-unavailable=Fail',
      '--cni-bin-dir=/host/bin',
      '--cni-conf-dir=/host/net.d',
    );
    assert.deepEqual(run.cni, { binDir: '/host/bin', confDir: '/host/net.d' });
    assert.deepEqual(run.exemptNamespaces, ['kube-system', 'tcpcrypt-system']);
    assert.deepEqual([run.nodeName, run.agentUnavailable, run.variant], ['node-1', 'Fail', undefined]);
    assert.deepEqual(run.metricsListen, { host: '::', port: 19091 });
    assert.equal(parsed('--no-cni').cni, undefined);
    assert.equal(parsed('--metrics-listen=none').metricsListen, undefined);
  });

  test('what is wrong is said', () => {
    const wrong = [
      [],
      ['go'],
      ['run', 'x'],
      ['run', '--what'],
      ['run', '--agent-unavailable=skip'],
      ['run', '--iptables=x'],
      ['run', '--metrics-listen=x'],
      ['run', '--metrics-listen=:70000'],
      ['run', '--keep-interval=0'],
    ];
    for (const args of wrong) {
      assert.throws(() => parseCommand(args, environment), { code: 'ERR_TCPCRYPT_USAGE' }, args.join(' '));
    }
    assert.throws(() => parseCommand(['run'], {}), { code: 'ERR_TCPCRYPT_USAGE' });
  });

  test('docs/node-agent.md has every option', () => {
    const documented = [...document('node-agent.md').matchAll(/^\| `--([a-z-]+)/gm)].map(([, name]) => name);
    assert.deepEqual(documented, Object.keys(options));
  });
});

test('docs/node-agent.md has every metric', () => {
  const rows = [
    ...document('node-agent.md').matchAll(
      /^\| `(tcpcrypt_(?:agent|namespace)_[a-z_]+)` \| (\w+) \| ([^|]*) \| (.*) \|$/gm,
    ),
  ];
  const documented = rows.map(([, name, type, labels, help]) => [name, type, labels?.trim(), help]);
  const expected = Object.entries(metrics).map(([name, { type, labels, help }]) => [
    name,
    type,
    labels.map((label) => `\`${label}\``).join(', ') || '-',
    help,
  ]);
  assert.deepEqual(documented, expected);
});

describe('a pod', () => {
  const injected = {
    metadata: { namespace: 'a', name: 'b', uid: 'c', annotations: { 'tcpcrypt.io/status': 'injected' } },
    spec: { initContainers: [{ name: 'tcpcrypt', args: ['--strict'] }] },
  };
  test('has a sidecar where the webhook says so, and there is one', () => {
    assert.equal(readPod(injected).sidecar?.rules?.strict, true);
    assert.equal(readPod({ ...injected, metadata: {} }).sidecar, undefined);
    assert.equal(readPod({ ...injected, spec: {} }).sidecar, undefined);
    assert.equal(readPod({ ...injected, spec: { ...injected.spec, hostNetwork: true } }).sidecar, undefined);
    assert.equal(readPod({}).sidecar, undefined);
  });

  test('whose arguments make no rules says why', () => {
    const wrong = {
      ...injected,
      spec: { initContainers: [{ name: 'tcpcrypt', args: ['--exclude-cidr=x'] }] },
    };
    assert.equal(readPod(wrong).sidecar?.rules, undefined);
    assert.notEqual(readPod(wrong).sidecar?.problem, '');
  });

  test('starts and ends', () => {
    const statusOf = (state: object) => ({ initContainerStatuses: [{ name: 'tcpcrypt', state }] });
    assert.equal(readPod(injected).sidecar?.started, false);
    assert.equal(readPod({ ...injected, status: statusOf({ running: {} }) }).sidecar?.started, true);
    assert.equal(readPod({ ...injected, status: statusOf({ terminated: {} }) }).sidecar?.started, false);
    assert.equal(readPod(injected).ending, false);
    assert.equal(readPod({ ...injected, status: { phase: 'Failed' } }).ending, true);
    const deleted = { ...injected.metadata, deletionTimestamp: '2026-01-01T00:00:00Z' };
    assert.equal(readPod({ ...injected, metadata: deleted }).ending, true);
  });
});

test('the condition of a node', () => {
  const able = {
    variant: 'nft',
    nfqueue: true,
    connmark: true,
    families: [4, 6],
    reasons: [],
  } as const;
  const status = { chained: true, reason: '', files: new Map(), losses: 0 };
  const say = (capabilities: Capabilities, installer?: InstallerStatus, settings = true) => {
    const { supported, condition } = nodeState({ able: capabilities, settings }, installer);
    return [supported, condition.status, condition.reason, condition.message];
  };
  const how = 'Rules by iptables-nft, IPv4 and IPv6';
  assert.deepEqual(say(able, status), [true, 'True', 'Chained', `${how}, by the CNI plugin.`]);
  const given = { ...status, chained: false, reason: 'a.conflist: thrown out' };
  const without = `${how}, after a pod's start: a.conflist: thrown out.`;
  assert.deepEqual(say(able, given), [true, 'True', 'WithoutChaining', without]);
  assert.equal(say(able)[2], 'WithoutChaining');
  assert.match(String(say(able, status, false)[3]), /without the settings of conntrack/);
  const unable = { ...able, variant: undefined, nfqueue: false, reasons: ['nft, IPv4: no'] };
  const message = 'The kernel does not take NFQUEUE; pods here run plain: nft, IPv4: no';
  assert.deepEqual(say(unable, status), [false, 'False', 'KernelUnsupported', message]);
});

test('what was done to which pod outlives the process', () => {
  using folder = temporaryFolder();
  const attachment: Attachment = {
    ...{ containerId: 'c1', interfaceName: 'eth0', network: 'pods', netns: '/run/netns/x', inode: 7 },
    ...{ podNamespace: 'shop', podName: 'cart', podUid: 'u', ruleLayout: 1 },
    rules: {} as Attachment['rules'],
    settings: { conntrack: {}, devices: {} },
  };
  const first = new Attachments(folder.path);
  first.set(attachment);
  first.set({ ...attachment, containerId: 'c2' });
  first.delete({ containerId: 'c2', interfaceName: 'eth0' });
  for (const [name, text] of [
    ['x.json', '{'],
    ['y.json', '{}'],
    ['z.txt', '1'],
  ] as const) {
    writeFileSync(join(folder.path, name), text);
  }
  const second = new Attachments(folder.path);
  assert.deepEqual(second.all(), [attachment]);
  assert.deepEqual(second.get('c1', 'eth0'), attachment);
  assert.equal(second.get('c1', 'eth1'), undefined);
  assert.equal(readdirSync(folder.path).length, 4, 'what is not ours stays');
});

test('turns: one at a time for a thing, a few overall, whatever fails', async () => {
  const turns = new Turns(2);
  const running = new Map<string, number>();
  let most = 0;
  const work = (thing: string) =>
    turns.take(thing, async () => {
      running.set(thing, (running.get(thing) ?? 0) + 1);
      assert.equal(running.get(thing), 1);
      most = Math.max(
        most,
        [...running.values()].reduce((sum, n) => sum + n, 0),
      );
      await new Promise((resolve) => setTimeout(resolve, 1));
      running.set(thing, 0);
      if (thing === 'b') throw new Error('b');
      return thing;
    });
  const results = await Promise.allSettled(['a', 'b', 'a', 'c', 'b', 'a', 'd'].map(work));
  assert.equal(results.filter(({ status }) => status === 'rejected').length, 2);
  assert.equal(most, 2);
});

test('turns: of those that wait the newest goes first', async () => {
  const turns = new Turns(1);
  const order: string[] = [];
  const work = (thing: string) => turns.take(thing, async () => void order.push(thing));
  await Promise.all(['first', 'oldest', 'older', 'newest'].map(work));
  assert.deepEqual(order, ['first', 'newest', 'older', 'oldest']);
});
