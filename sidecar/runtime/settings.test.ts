import assert from 'node:assert/strict';
import { renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { trustKeyId } from '../../policy/keys.ts';
import { builtInPolicy } from '../../policy/testing.ts';
import { Metrics } from './metrics.ts';
import { Settings } from './settings.ts';
import { CounterReader } from './shared-counters.ts';
import { recordingLogger, temporaryDirectory } from './testing.ts';

const key = 'ab'.repeat(32);
const keysText = JSON.stringify({
  keys: [
    { key, offered: true },
    { key: 'cd'.repeat(32), offered: false },
  ],
});

async function setUp(t: TestContext, files: { policy?: string; keys?: string } = {}) {
  const directory = temporaryDirectory(t);
  const policyFile = join(directory, 'policy.yaml');
  const keysFile = join(directory, 'keys.yaml');
  if (files.policy !== undefined) writeFileSync(policyFile, files.policy);
  if (files.keys !== undefined) writeFileSync(keysFile, files.keys);
  const { log, lines } = await recordingLogger();
  const metrics = new Metrics(new CounterReader());
  const create = (withFiles = true, initialPolicy?: string): Settings => {
    const settings = new Settings({
      policyFile: withFiles && files.policy !== undefined ? policyFile : undefined,
      keysFile: withFiles && files.keys !== undefined ? keysFile : undefined,
      stateDir: directory,
      initialPolicy,
      log,
      metrics,
    });
    t.after(() => settings.close());
    return settings;
  };
  return { directory, policyFile, keysFile, lines, metrics, create };
}

async function until(what: () => boolean): Promise<void> {
  for (let tries = 0; !what(); tries++) {
    assert.ok(tries < 300, 'it did not come about in time');
    await setTimeout(20);
  }
}

test('without files: the built-in policy and no keys', async (t) => {
  const { create, metrics } = await setUp(t);
  const settings = create();
  assert.deepEqual([settings.policy.mode, settings.trustKeys], ['Opportunistic', []]);
  assert.match(
    await metrics.text(),
    new RegExp(`policy_info\\{generation="${builtInPolicy().generation}"\\} 1`),
  );
});

test('an initial policy: below the file and the last one that was kept, above the built-in one', async (t) => {
  const { create } = await setUp(t, { policy: 'mode: Audit' });
  assert.equal(create(true, '{"mode":"Strict"}').policy.mode, 'Audit');
  const alone = await setUp(t);
  const settings = alone.create(true, '{"mode":"Strict"}');
  assert.equal(settings.policy.mode, 'Strict');
  settings.setPolicy('{"mode":"Disabled"}');
  assert.equal(alone.create(true, '{"mode":"Strict"}').policy.mode, 'Disabled');
  assert.throws(() => create(false, '{"mode":"Odd"}').policy, /mode/);
});

test('a change of a file is applied; a bad one is logged and counted, and what was in force stays', async (t) => {
  const { create, policyFile, metrics, lines } = await setUp(t, { policy: 'mode: Audit' });
  const settings = create();
  const applied: string[] = [];
  settings.start({
    setPolicy: ({ mode }) => void applied.push(mode),
    setTrustKeys: () => assert.fail('no keys'),
  });
  assert.equal(settings.policy.mode, 'Audit');
  // What the process began with is not applied again.
  await setTimeout(200);
  assert.deepEqual(applied, []);
  writeFileSync(policyFile, 'mode: Strict');
  await until(() => applied.length === 1);
  writeFileSync(policyFile, 'mode: Stricter');
  await until(() => lines.some(({ code }) => code === 'ERR_TCPCRYPT_POLICY_INVALID'));
  assert.deepEqual([applied, settings.policy.mode], [['Strict'], 'Strict']);
  rmSync(policyFile);
  await until(() => lines.filter(({ code }) => code === 'ERR_TCPCRYPT_POLICY_INVALID').length === 2);
  writeFileSync(`${policyFile}.tmp`, 'mode: Disabled');
  renameSync(`${policyFile}.tmp`, policyFile);
  await until(() => applied.length === 2);
  assert.equal(applied[1], 'Disabled');
  const text = await metrics.text();
  assert.match(text, /tcpcrypt_reloads_total\{what="policy",result="success"\} 2/);
  assert.match(text, /tcpcrypt_reloads_total\{what="policy",result="failure"\} 2/);
  assert.equal(text.match(/^tcpcrypt_policy_info\{/gm)?.length, 1);
});

test('SIGHUP reads again at once', async (t) => {
  const { create, keysFile } = await setUp(t, { keys: '{"keys": []}' });
  const settings = create();
  const applied: number[] = [];
  settings.start({ setPolicy: () => {}, setTrustKeys: (keys) => void applied.push(keys.length) });
  writeFileSync(keysFile, keysText);
  settings.reload();
  assert.deepEqual([applied, settings.trustKeys.length], [[2], 2]);
});

test('keys: metrics name them by id, and no log line or file that others can read has one', async (t) => {
  const { create, directory, lines, metrics } = await setUp(t);
  const settings = create();
  const { keyIds } = settings.setKeys(keysText);
  assert.equal(keyIds[0], trustKeyId(Buffer.from(key, 'hex')));
  const text = await metrics.text();
  assert.match(text, new RegExp(`trust_key_info\\{key_id="${keyIds[0]}",state="offered"\\} 1`));
  assert.match(text, new RegExp(`trust_key_info\\{key_id="${keyIds[1]}",state="accepted"\\} 1`));
  assert.throws(() => settings.setKeys(`{"keys": [{"key": "${key}00"}]}`), {
    code: 'ERR_TCPCRYPT_KEYS_INVALID',
  });
  assert.equal(settings.trustKeys.length, 2);
  assert.doesNotMatch(JSON.stringify(lines) + text, /abab/);
  assert.equal(statSync(join(directory, 'last-keys')).mode & 0o777, 0o600);
});

test('the last good ones are there after a restart, where no file is named or the file is bad', async (t) => {
  const { create, policyFile, lines } = await setUp(t, { policy: 'mode: Audit' });
  const first = create(false);
  first.setPolicy('mode: Strict');
  first.setKeys(keysText);
  const second = create(false);
  assert.deepEqual([second.policy.mode, second.trustKeys.length], ['Strict', 2]);
  assert.equal(create().policy.mode, 'Audit');
  writeFileSync(policyFile, '{');
  assert.equal(create().policy.mode, 'Strict');
  assert.ok(lines.some(({ level, code }) => level === 'error' && code === 'ERR_TCPCRYPT_POLICY_INVALID'));
});

test('a file that is named and bad, with nothing to fall back to, is an error', async (t) => {
  const bad = await setUp(t, { policy: '{' });
  assert.throws(() => bad.create(), { code: 'ERR_TCPCRYPT_POLICY_INVALID' });
  const gone = await setUp(t, { keys: keysText });
  rmSync(gone.keysFile);
  assert.throws(() => gone.create(), { code: 'ERR_TCPCRYPT_KEYS_INVALID' });
});
