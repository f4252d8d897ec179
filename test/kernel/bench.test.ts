/** `npm run bench` on the real kernel: that it works, tells what it should, and leaves nothing. Nothing about time. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { FIGURE_NAMES, FIGURES } from '../../bench/figures.ts';
import type { Report } from '../../bench/report.ts';
import { temporaryFolder } from './support/files.ts';
import { requireRoot } from './support/namespaces.ts';
import { eventually, finished } from './support/processes.ts';

const cli = new URL('../../bench/cli.ts', import.meta.url).pathname;
const start = (args: readonly string[], temporary = tmpdir()) =>
  spawn(process.execPath, [cli, ...args], { env: { ...process.env, TMPDIR: temporary } });

/** What a run with this pid could have left in the system: namespaces, control groups. */
function leftovers(pid: number): string[] {
  const cgroups = readFileSync('/proc/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' '))
    .filter(([, , type]) => type === 'cgroup2')
    .flatMap(([, path]) => readdirSync(path));
  return [
    ...readdirSync('/run/netns').filter((name) => name.startsWith(`tc${pid}-`)),
    ...cgroups.filter((name) => name === `tcpcrypt-bench-${pid}`),
  ];
}

test('bench --quick measures plain TCP and tcpcrypt, and writes table, JSON and chart', async (t) => {
  if (!requireRoot(t)) return;
  using folder = temporaryFolder();
  const json = join(folder.path, 'result.json');
  const child = start(['--quick', '--only', 'tcpcrypt', '--seed', '5', '--json', json], folder.path);
  const { code, stdout, stderr } = await finished(child, 180_000);
  assert.equal(code, 0, stderr);
  assert.match(stdout, /^plain +[\d.]+/m);
  assert.match(stdout, /^tcpcrypt +[\d.]+/m);
  assert.match(stdout, /seed 5/);

  const report: Report = JSON.parse(readFileSync(json, 'utf8'));
  assert.deepEqual(
    report.rows.map(({ name }) => name),
    ['plain', 'tcpcrypt'],
  );
  const [plain, tcpcrypt] = report.rows;
  for (const name of FIGURE_NAMES) {
    // A quick run does not hold ten thousand connections; plain TCP has no process and resumes nothing.
    const { measure } = FIGURES[name];
    if (measure !== 'crowd') assert.ok(tcpcrypt.figures[name]! > 0, `${name} of tcpcrypt`);
    if (!['memory', 'crowd', 'cached'].includes(measure))
      assert.ok(plain.figures[name]! > 0, `${name} of plain`);
  }
  assert.deepEqual(
    tcpcrypt.remarks,
    undefined,
    'every connection was encrypted, and resumed where it should be',
  );
  const svg = readFileSync(join(folder.path, 'result.svg'), 'utf8');
  assert.ok(svg.startsWith('<svg ') && svg.endsWith('</svg>\n'));
  assert.deepEqual(leftovers(child.pid!), []);
  assert.deepEqual(
    readdirSync(folder.path).sort(),
    ['result.json', 'result.svg'],
    'temporary files are gone',
  );
});

test('bench that is interrupted leaves nothing', async (t) => {
  if (!requireRoot(t)) return;
  using folder = temporaryFolder();
  const child = start(['--only', 'tcpcrypt'], folder.path);
  const done = finished(child, 60_000);
  const running = () => leftovers(child.pid!).some((name) => name.includes('-server'));
  await eventually(running, 'the namespaces of a row', 30_000);
  assert.notDeepEqual(readdirSync(folder.path), []);
  child.kill('SIGINT');
  await done;
  assert.equal(child.signalCode, 'SIGINT');
  assert.deepEqual(leftovers(child.pid!), []);
  assert.deepEqual(readdirSync(folder.path), []);
});

test('bench says what is wrong with its arguments, and names its rows', async () => {
  const wrong = await finished(start(['--only', 'nginx']));
  assert.equal(wrong.code, 2);
  assert.equal(wrong.stderr, "bench: ERR_TCPCRYPT_USAGE: there is no row 'nginx'; see --list\n");
  const list = await finished(start(['--list']));
  assert.equal(list.code, 0);
  for (const name of [
    'plain',
    'haproxy-1',
    'wireguard-go',
    'floor-loop',
    'AES-128-CTR-GMAC',
    'X25519MLKEM768',
  ])
    assert.match(list.stdout, new RegExp(`^${name} `, 'm'));
});
