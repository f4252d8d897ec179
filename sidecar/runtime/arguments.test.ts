import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { parseArguments, type RunOptions } from './arguments.ts';
import { commands } from './commands.ts';
import { version } from './version.ts';

const launcher = fileURLToPath(new URL('../../bin/tcpcrypt', import.meta.url));

function tcpcrypt(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(launcher, args, { encoding: 'utf8', timeout: 60_000 });
}

function runOptions(...args: string[]): RunOptions {
  const invocation = parseArguments(['run', ...args]);
  assert.equal(invocation.kind, 'run');
  return (invocation as { options: RunOptions }).options;
}

test('every command answers --help and --version, wherever they stand', () => {
  assert.deepEqual(parseArguments(['--version']), { kind: 'version' });
  for (const name of Object.keys(commands)) {
    const words = name.split(' ');
    assert.deepEqual(parseArguments([...words, '--version']), { kind: 'version' });
    const help = parseArguments([...words, '--help']);
    assert.equal(help.kind, 'print');
    assert.match((help as { text: string }).text, new RegExp(`Usage: tcpcrypt ${name} `));
  }
});

test('what run does without options', () => {
  assert.deepEqual(runOptions(), {
    policyFile: undefined,
    initialPolicy: undefined,
    keysFile: undefined,
    stateDir: undefined,
    apiSocket: '/run/tcpcrypt/api.sock',
    controlSocket: undefined,
    metricsListen: { host: '::', port: 19090 },
    installRules: false,
    ensureRules: false,
    graceMs: 25_000,
    clusterCidrs: [],
    nodeCidrs: [],
    encoding: 'experimental',
    rules: {
      mask: 0x7e000000,
      injectMark: 0x01000000,
      setupQueues: { first: 5440, count: 1 },
      dataQueues: { first: 5441, count: 1 },
      superSegmentQueues: { first: 5442, count: 1 },
      strict: false,
      dataWhenNoState: false,
      optionKinds: [253],
      excludePorts: [],
      excludeCidrs: [],
    },
    reconcileMs: 5000,
  });
});

test('options are read into what they mean', () => {
  assert.deepEqual(runOptions('--metrics-listen', '127.0.0.1:0').metricsListen, {
    host: '127.0.0.1',
    port: 0,
  });
  assert.deepEqual(runOptions('--metrics-listen', ':9').metricsListen, { host: '::', port: 9 });
  assert.equal(runOptions('--metrics-listen', 'none').metricsListen, undefined);
  assert.equal(runOptions('--api-socket=none').apiSocket, undefined);
  assert.equal(runOptions('--grace', '0.5').graceMs, 500);
  assert.deepEqual(runOptions('--exclude-port', '22', '--exclude-port', '8000:8099').rules.excludePorts, [
    { port: 22, endPort: 22 },
    { port: 8000, endPort: 8099 },
  ]);
  assert.deepEqual(runOptions('--encoding', 'legacy').rules.optionKinds, [253, 69, 70]);
  assert.equal(runOptions('--first-queue', '7').rules.dataQueues.first, 8);
  const { setupQueues, superSegmentQueues } = runOptions('--workers', '4', '--first-queue', '7').rules;
  assert.deepEqual(
    [setupQueues, superSegmentQueues],
    [
      { first: 7, count: 4 },
      { first: 15, count: 4 },
    ],
  );
});

const wrong: readonly (readonly string[])[] = [
  [],
  ['encrypt'],
  ['rules'],
  ['rules', 'change'],
  ['run', 'fast'],
  ['run', '--nothing'],
  ['run', '--policy'],
  ['run', '--policy='],
  ['run', '--log-level', 'loud'],
  ['run', '--metrics-listen', '19090'],
  ['run', '--metrics-listen', '[::]:65536'],
  ['run', '--grace', 'long'],
  ['run', '--grace', '-1'],
  ['run', '--cluster-cidr', '10.0.0.0/33'],
  ['run', '--first-queue', '65534'],
  ['run', '--mark-mask', '0x7'],
  ['run', '--inject-mark', '0x02000000'],
  ['run', '--exclude-port', '9:8'],
  ['rules', 'install', '--exclude-cidr', 'everywhere'],
  ['session-id', '10.0.0.1:1'],
  ['session-id', '10.0.0.1:1', '10.0.0.2:2', '10.0.0.3:3'],
  ['connections', '--json=yes'],
  ['metrics', 'all'],
];

for (const args of wrong) {
  test(`wrong usage: tcpcrypt ${args.join(' ')}`, () => {
    assert.throws(() => parseArguments(args), { code: 'ERR_TCPCRYPT_USAGE' });
  });
}

test('exit status 0, 1 and 2, and a sentence with its code', () => {
  const good = tcpcrypt('--version');
  assert.deepEqual([good.status, good.stdout, good.stderr], [0, `tcpcrypt ${version}\n`, '']);
  const failed = tcpcrypt('connections', '--api-socket', '/nowhere/api.sock');
  assert.deepEqual([failed.status, failed.stdout], [1, '']);
  assert.match(failed.stderr, /^tcpcrypt: ERR_TCPCRYPT_API_UNREACHABLE: \/nowhere\/api.sock: .+\n$/);
  const misused = tcpcrypt('run', '--nothing');
  assert.deepEqual([misused.status, misused.stdout], [2, '']);
  assert.match(misused.stderr, /^tcpcrypt: ERR_TCPCRYPT_USAGE: .*--nothing.*\n$/);
});
