import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { temporaryFolder } from '../executable/testing.ts';
import { parseGroups, podProcesses } from './processes.ts';

const uid = '0d7c3f9e-8a49-4c6b-9c55-6f2b8f0c1a11';
const underscored = uid.replaceAll('-', '_');

test('the control groups of the ways in which a kubelet is set up', () => {
  const groups = [
    `0::/kubepods/burstable/pod${uid}/3f1c`,
    `12:memory:/kubepods/besteffort/pod${uid}/3f1c\n11:cpu:/kubepods/besteffort/pod${uid}/3f1c`,
    `0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${underscored}.slice/cri-containerd-3f1c.scope`,
    `0::/../../kubepods-pod${underscored}.slice/crio-3f1c.scope`,
    `4:pids:/node2/kubepods/pod${uid}`,
  ];
  for (const text of groups) assert.equal(parseGroups(text), uid, text);
  // A static pod's UID is a hash.
  assert.equal(parseGroups(`0::/kubepods/pod${'a'.repeat(32)}/x`), 'a'.repeat(32));
  for (const text of [
    '',
    '0::/',
    '0::/system.slice/podman.service',
    `0::/kubepods/xpod${uid}`,
    '0::/pod/x',
  ]) {
    assert.equal(parseGroups(text), undefined, text);
  }
  // A container that makes groups of its own stays its pod's.
  const other = 'ffffffff-8a49-4c6b-9c55-6f2b8f0c1a11';
  assert.equal(parseGroups(`0::/kubepods/pod${uid}/3f1c/kubepods/pod${other}`), uid);
});

test('one process a pod', () => {
  using folder = temporaryFolder();
  for (const [id, group] of [
    ['7', `0::/kubepods/pod${uid}/a`],
    ['8', `0::/kubepods/pod${uid}/b`],
    ['9', '0::/init.scope'],
    ['self', `0::/kubepods/pod${uid}/a`],
  ] as const) {
    mkdirSync(join(folder.path, id));
    writeFileSync(join(folder.path, id, 'cgroup'), group);
  }
  mkdirSync(join(folder.path, '10'));
  assert.deepEqual([...podProcesses(folder.path)], [[uid, 7]]);
});
