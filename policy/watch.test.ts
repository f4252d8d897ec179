import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type WatchOptions, watchFile } from './watch.ts';

function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'tcpcrypt-watch-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

function start(t: TestContext, path: string, options: WatchOptions = {}) {
  const seen: string[] = [];
  const errors: (string | undefined)[] = [];
  const watcher = watchFile(path, (text) => seen.push(text), {
    debounceMs: 10,
    pollMs: 50,
    onError: (error) => errors.push(error.code),
    ...options,
  });
  t.after(() => watcher.close());
  return { seen, errors, watcher };
}

/** Waits until `list` is `expected`, then a little more to see that nothing follows. */
async function settles<T>(list: readonly T[], expected: readonly T[]): Promise<void> {
  const deadline = Date.now() + 5_000;
  while (list.length < expected.length && Date.now() < deadline) await sleep(5);
  await sleep(150);
  assert.deepEqual(list, expected);
}

const swap = (path: string, text: string): void => {
  writeFileSync(`${path}.new`, text);
  renameSync(`${path}.new`, path);
};

test('in-place writes and replacement by rename', async (t) => {
  const path = join(folder(t), 'policy.yaml');
  writeFileSync(path, 'one');
  const { seen, errors } = start(t, path);
  await settles(seen, ['one']);
  writeFileSync(path, 'two');
  await settles(seen, ['one', 'two']);
  swap(path, 'three');
  await settles(seen, ['one', 'two', 'three']);
  swap(path, 'three');
  await settles(seen, ['one', 'two', 'three']);
  assert.deepEqual(errors, []);
});

test('events alone suffice, without a poll', async (t) => {
  const path = join(folder(t), 'policy.yaml');
  writeFileSync(path, 'one');
  const { seen } = start(t, path, { pollMs: 1_000_000 });
  await settles(seen, ['one']);
  swap(path, 'two');
  await settles(seen, ['one', 'two']);
  swap(path, 'three');
  await settles(seen, ['one', 'two', 'three']);
});

test('a Kubernetes volume: ..data is swapped', async (t) => {
  const root = folder(t);
  const publish = (n: number, text: string): void => {
    mkdirSync(join(root, `..v${n}`));
    writeFileSync(join(root, `..v${n}`, 'policy.yaml'), text);
    symlinkSync(`..v${n}`, join(root, '..data_tmp'));
    renameSync(join(root, '..data_tmp'), join(root, '..data'));
    if (n > 0) rmSync(join(root, `..v${n - 1}`), { recursive: true });
  };
  publish(0, 'one');
  symlinkSync('..data/policy.yaml', join(root, 'policy.yaml'));
  const { seen, errors } = start(t, join(root, 'policy.yaml'));
  await settles(seen, ['one']);
  publish(1, 'two');
  await settles(seen, ['one', 'two']);
  publish(2, 'thr');
  await settles(seen, ['one', 'two', 'thr']);
  assert.deepEqual(errors, []);
});

test('the poll finds what the folder’s events do not tell: a link that leads elsewhere', async (t) => {
  const root = folder(t);
  const elsewhere = folder(t);
  writeFileSync(join(elsewhere, 'p'), 'one');
  symlinkSync(join(elsewhere, 'p'), join(root, 'policy.yaml'));
  const { seen } = start(t, join(root, 'policy.yaml'));
  await settles(seen, ['one']);
  writeFileSync(join(elsewhere, 'p'), 'two');
  await settles(seen, ['one', 'two']);
});

test('writes in quick succession, of equal size: the last one is seen', async (t) => {
  const path = join(folder(t), 'policy.yaml');
  writeFileSync(path, '00');
  const { seen } = start(t, path, { debounceMs: 0, pollMs: 20 });
  await settles(seen, ['00']);
  for (let i = 10; i < 16; i++) {
    writeFileSync(path, 'xx');
    await sleep(i % 5);
    writeFileSync(path, String(i));
    await t.waitFor(() => assert.equal(seen.at(-1), String(i)), { timeout: 10_000 });
  }
});

test('a missing file is told once, and found when it comes, its folder too', async (t) => {
  const root = join(folder(t), 'later');
  const path = join(root, 'policy.yaml');
  const { seen, errors } = start(t, path);
  await settles(errors, ['ENOENT']);
  mkdirSync(root);
  writeFileSync(path, 'one');
  await settles(seen, ['one']);
  unlinkSync(path);
  await settles(errors, ['ENOENT', 'ENOENT']);
  writeFileSync(path, 'one');
  await settles(seen, ['one']);
  writeFileSync(path, 'two');
  await settles(seen, ['one', 'two']);
});

test('initial content is not handed over again', async (t) => {
  const path = join(folder(t), 'policy.yaml');
  writeFileSync(path, 'one');
  const { seen } = start(t, path, { initial: 'one' });
  await settles(seen, []);
  writeFileSync(path, 'two');
  await settles(seen, ['two']);
});

test('after close nothing is handed over', async (t) => {
  const path = join(folder(t), 'policy.yaml');
  writeFileSync(path, 'one');
  const { seen, watcher } = start(t, path);
  await settles(seen, ['one']);
  writeFileSync(path, 'two');
  watcher.close();
  await settles(seen, ['one']);

  const reading = start(t, path);
  reading.watcher.close();
  await settles(reading.seen, []);
});
