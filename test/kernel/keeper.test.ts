/** Whose rules the keeper mends, and whose it leaves. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Attachments } from '../../cni/agent/attachments.ts';
import { Keeper } from '../../cni/agent/keeper.ts';
import { openNamespace } from '../../cni/agent/namespace-handle.ts';
import { type Pod, readPod } from '../../cni/agent/pod.ts';
import { PodRules } from '../../cni/agent/pod-rules.ts';
import { RULE_LAYOUT } from '../../netfilter/rules.ts';
import type { Logger } from '../../observability/log.ts';
import { injected } from './support/cni-node.ts';
import { temporaryFolder } from './support/files.ts';
import { Lab, requireRoot } from './support/namespaces.ts';
import { eventually } from './support/processes.ts';

const silent = (): void => {};
const log = { warn: silent, debug: silent, info: silent, error: silent } as unknown as Logger;
const running = { initContainerStatuses: [{ name: 'tcpcrypt', state: { running: {} } }] };
const fail = (): never => assert.fail('there is no record');
const pod: Pod = readPod({ ...injected(), status: running });

test('the keeper mends rules of the layout that the sidecar serves, and no others', async (t) => {
  if (!requireRoot(t)) return;
  using lab = new Lab();
  using folder = temporaryFolder();
  const host = lab.host('pod');
  const podRules = new PodRules();
  const attachments = new Attachments(folder.path);
  using namespace = openNamespace(host.nsPath);
  assert.ok(namespace !== undefined && pod.sidecar?.rules !== undefined);
  const installed = await podRules.install(namespace, pod.sidecar.rules, () => true);
  attachments.set({
    ...{ containerId: 'c', interfaceName: 'eth0', network: 'n', netns: host.nsPath, inode: namespace.inode },
    ...{ podNamespace: pod.namespace, podName: pod.name, podUid: pod.uid, ruleLayout: RULE_LAYOUT },
    ...installed,
  });
  const expected = installed.rules;
  const differ = async () => (await podRules.differences(namespace, expected)).length > 0;
  const damage = () => host.run('iptables-nft', ['-t', 'mangle', '-F', 'TCPCRYPT_NEW']);

  let layout: number | undefined;
  let asked = 0;
  let pods = [pod];
  const mended: string[] = [];
  const keeper = new Keeper({
    ...{ attachments, podRules, log, everyMs: 50, procDir: folder.path },
    pods: () => pods,
    supported: () => true,
    ruleLayout: async () => {
      asked++;
      if (layout === undefined) throw new Error('it does not answer');
      return layout;
    },
    leftAlone: (_pod, reason) => assert.fail(reason),
    mended: (result) => mended.push(result),
  });
  damage();
  keeper.start();
  try {
    await eventually(() => asked >= 2, 'a sidecar that does not answer');
    layout = RULE_LAYOUT + 1;
    asked = 0;
    await eventually(() => asked >= 2, 'one of another layout');
    assert.equal(await differ(), true, 'neither is mended');
    layout = RULE_LAYOUT;
    await eventually(async () => !(await differ()), 'ours is');
    assert.deepEqual(mended, ['success']);
    // The record of what was there before the first installation stays.
    assert.deepEqual(attachments.all()[0]?.settings, installed.settings);
    assert.equal(keeper.hasRules(pod.uid), true);
    const [{ inode } = fail()] = attachments.all();
    attachments.set({ ...attachments.all()[0]!, inode: inode + 1 });
    assert.equal(keeper.hasRules(pod.uid), false, 'the rules of a sandbox that is gone are none');
    // The pod is gone, and its namespace.
    pods = [];
    await eventually(() => attachments.all().length === 0, 'the record goes');
  } finally {
    await keeper.stop();
  }
});
