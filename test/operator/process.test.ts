/** The operator as a process: what it does where it cannot work, and what it costs. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { eventually, finished } from '../kernel/support/processes.ts';
import { IMAGE, NAMESPACE, OPERATOR, skip, startLab } from './lab.ts';

const run = async (args: readonly string[], env: NodeJS.ProcessEnv = {}) =>
  await finished(spawn(OPERATOR, args, { env: { PATH: process.env['PATH'], ...env } }), 30_000);

test('help, version, wrong usage', async () => {
  const help = await run(['--help']);
  assert.equal(help.code, 0);
  assert.match(help.stdout, /^tcpcrypt-operator: /);
  assert.match((await run(['--version'])).stdout, /^tcpcrypt-operator \d+\.\d+\.\d+\n$/);
  const wrong = await run(['walk']);
  assert.equal(wrong.code, 2);
  assert.match(wrong.stderr, /ERR_TCPCRYPT_USAGE/);
});

test('no configuration, a wrong one, no API server: a clear error and the end', async () => {
  const named = ['run', '--namespace', 'n', '--identity', 'i', '--config'];
  const missing = await run([...named, '/nowhere']);
  assert.equal(missing.code, 1);
  assert.match(missing.stderr, /ERR_TCPCRYPT_CONFIG_INVALID: \/nowhere cannot be read/);
});

test('a webhook port that is taken ends the process; SIGTERM does at once', { skip }, async () => {
  await using lab = await startLab();
  const taken = createServer();
  await new Promise<void>((resolve) => taken.listen(0, '::', resolve));
  const { port } = taken.address() as { port: number };
  await assert.rejects(lab.operator({ webhook: { port } }), /the operator ended.*EADDRINUSE/s);
  taken.close();
  const replica = await lab.operator();
  await replica.stop();
  assert.match(replica.log(), /"msg":"stopping"/);
  const file = join(lab.folder, 'stale.yaml');
  writeFileSync(file, `injection: {image: "${IMAGE}"}\nwebhook: {port: 0}\n`);
  const wrong = await run(['run', '--config', file, '--namespace', NAMESPACE, '--identity', 'i']);
  assert.match(wrong.stderr, /ERR_TCPCRYPT_CONFIG_INVALID: webhook\.port/);
});

test('an API server that goes away: the webhook answers on from memory, and the operator goes on after', {
  skip,
}, async () => {
  await using lab = await startLab();
  const replica = await lab.operator();
  const metric = async (name: string) =>
    (await replica.metrics()).split('\n').find((line) => line.startsWith(name));
  assert.ok(await metric('tcpcrypt_operator_build_info'));
  await lab.controlPlane.stop();
  await eventually(() => replica.log().includes('it is started again'), 'the watches noticed', 60_000);
  await eventually(
    async () => (await metric('tcpcrypt_operator_leader')) === 'tcpcrypt_operator_leader 0',
    'not leading',
    60_000,
  );
  assert.ok(await metric('tcpcrypt_operator_build_info'), 'it still runs');
});
