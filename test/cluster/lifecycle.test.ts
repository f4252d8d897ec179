/** A cluster that crashed is started anew, and one that is taken down leaves nothing. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { nodeNames } from './addresses.ts';
import { down, isUp, status, up } from './cluster.ts';
import { runCommand } from './machine.ts';
import { sharedCluster as cluster, skip } from './support/shared.ts';

test('up after a crash removes what is left and starts anew; up again does nothing', { skip }, async () => {
  await up(cluster);
  cluster.kubectl(['create', 'namespace', 'before-the-crash']);
  // The control plane dies in the middle of its work; a node lives on.
  for (const machine of [cluster.control, cluster.nodes.node1]) process.kill(machine.pid, 'SIGKILL');
  assert.equal(isUp(cluster), false);
  await up(cluster);
  assert.ok(isUp(cluster), status(cluster).join('\n'));
  const { status: found } = cluster.kubectl(['get', 'namespace', 'before-the-crash'], { allowFailure: true });
  assert.notEqual(found, 0, 'it is the old cluster');
  const { pid } = cluster.control;
  await up(cluster);
  assert.equal(cluster.control.pid, pid);
});

test('down leaves no process, mount, device, cgroup or file, and a second one does nothing', {
  skip,
}, async () => {
  const devices = runCommand('ip', ['-brief', 'link']).stdout;
  const namespaces = cluster.machines.map((machine) => readlink(machine.networkNamespace));
  await down(cluster);
  assert.equal(existsSync(cluster.folder), false);
  assert.doesNotMatch(readFileSync('/proc/mounts', 'utf8'), new RegExp(cluster.folder));
  assert.equal(runCommand('ip', ['-brief', 'link']).stdout, devices);
  for (const name of nodeNames) {
    const left = runCommand('find', [
      '/sys/fs/cgroup',
      '-maxdepth',
      '2',
      '-name',
      cluster.cgroup(name).slice(1),
    ]);
    assert.equal(left.stdout, '');
  }
  const living = runCommand('sh', ['-c', 'readlink /proc/[0-9]*/ns/net || true']).stdout.split('\n');
  for (const namespace of namespaces) assert.ok(!living.includes(namespace), 'a process lives');
  await down(cluster);
});

const readlink = (path: string): string => runCommand('readlink', [path]).stdout.trim();
