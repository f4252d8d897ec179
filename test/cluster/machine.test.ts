/** What is left of a machine after it is removed, and after its keeper died: nothing. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { eventually } from '../kernel/support/processes.ts';
import { makeCgroup, removeCgroup } from './cgroups.ts';
import { Cluster, cannotRun, down, status } from './cluster.ts';
import { Machine, runCommand } from './machine.ts';
import { layFabric, plugIn, routePods } from './network.ts';

const skip = cannotRun() ?? false;

function makeMachine(t: TestContext, name: string): Machine {
  const folder = mkdtempSync(join(tmpdir(), 'tcpcrypt-machine-'));
  const machine = new Machine(name, join(folder, name));
  t.after(async () => {
    await machine.remove();
    rmSync(folder, { recursive: true });
  });
  return machine;
}

const mountsOf = (machine: Machine): string[] =>
  readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .filter((line) => line.includes(machine.folder));

test('a machine has namespaces, files and processes of its own; all go with it', { skip }, async (t) => {
  const machine = makeMachine(t, 'm1');
  await machine.start();
  assert.equal(machine.run('hostname').stdout.trim(), 'm1');
  assert.equal(machine.run('cat', ['/proc/1/comm']).stdout.trim(), 'tini');
  machine.run('sh', ['-c', 'mkdir -p /etc/cni/net.d && echo x >/etc/cni/net.d/mine']);
  assert.equal(existsSync('/etc/cni/net.d/mine'), false, 'it wrote into the host');
  assert.deepEqual(mountsOf(machine), [], 'its mounts reached the host');
  machine.startService('sleeper', 'sleep', ['1000']);
  const { pid } = machine;
  assert.ok(machine.serviceRuns('sleeper'));
  const sleeper = childrenOf(pid);
  await machine.stop();
  assert.equal(machine.running, false);
  for (const each of [pid, ...sleeper])
    assert.equal(existsSync(`/proc/${each}`), false, `process ${each} lives`);
  assert.ok(existsSync(join(machine.folder, 'root/etc/cni/net.d/mine')), 'its disk did not survive');
  await machine.remove();
  assert.equal(existsSync(machine.folder), false);
  await machine.remove();
});

test('when its keeper is killed the whole machine goes, and it can be started again', { skip }, async (t) => {
  const machine = makeMachine(t, 'm2');
  await machine.start();
  const { pid } = machine;
  const keeper = JSON.parse(readFileSync(join(machine.folder, 'state.json'), 'utf8')).keeper.pid;
  process.kill(keeper, 'SIGKILL');
  await eventually(() => !/[RSD]/.test(stateOf(pid)), 'the end of its first process');
  assert.equal(machine.running, false);
  assert.throws(() => machine.run('true'), /m2 is not running/);
  await machine.stop();
  await machine.start();
  assert.equal(machine.run('hostname').stdout.trim(), 'm2');
});

test('what state.json names is not killed when its id belongs to another process now', {
  skip,
}, async (t) => {
  const machine = makeMachine(t, 'm3');
  await machine.start();
  const file = join(machine.folder, 'state.json');
  const state = JSON.parse(readFileSync(file, 'utf8'));
  await machine.stop();
  const bystander = { pid: process.pid, started: '1' };
  machine.write('state.json', JSON.stringify({ ...state, keeper: bystander, first: bystander }));
  await machine.stop();
  assert.equal(existsSync(file), false);
});

test('machines reach each other over the fabric, in both families, and nobody else', { skip }, async (t) => {
  const control = makeMachine(t, 'control');
  const node = makeMachine(t, 'node1');
  const devices = runCommand('ip', ['-brief', 'link']).stdout;
  await control.start();
  layFabric(control);
  await node.start();
  plugIn(control, node, 'node1');
  routePods(control, 'node1');
  assert.equal(runCommand('ip', ['-brief', 'link']).stdout, devices, 'a device is on the host');
  assert.match(control.run('ip', ['route', 'get', '10.244.1.9']).stdout, /via 10\.88\.0\.11 dev fabric/);
  assert.match(control.run('ip', ['-6', 'route', 'get', 'fd44:0:0:1::9']).stdout, /via fd88::11 dev fabric/);
  node.startService('listener', 'iperf3', ['--server']);
  for (const address of ['10.88.0.11', 'fd88::11']) {
    const iperf = () => control.runInNetwork('iperf3', ['-c', address, '-n', '1M'], { allowFailure: true });
    await eventually(() => iperf().status === 0, `${address} from the control machine`);
  }
});

test('a cgroup goes with what is below it', { skip }, async () => {
  makeCgroup('/tcpcrypt-test/pods/pod1');
  await removeCgroup('/tcpcrypt-test');
  assert.doesNotMatch(
    runCommand('find', ['/sys/fs/cgroup', '-maxdepth', '2', '-name', 'tcpcrypt-test']).stdout,
    /./,
  );
});

test('down without a cluster does nothing, and says so', { skip }, async () => {
  const none = new Cluster(`none-${process.pid}`);
  await down(none);
  assert.deepEqual(status(none), [`cluster ${none.name}: none`]);
});

/** The letter of /proc/PID/stat; '' when it is gone. */
function stateOf(pid: number): string {
  const stat = `/proc/${pid}/stat`;
  return existsSync(stat) ? readFileSync(stat, 'utf8').replace(/^.*\) /s, '')[0] : '';
}

function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').map(Number);
}
