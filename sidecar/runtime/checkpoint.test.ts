import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { TcpcryptError } from '../../errors/catalogue.ts';
import { CheckpointLog, checkpointFile, openStateDirectory, refuseOtherWorkers } from './checkpoint.ts';

function directory(t: TestContext): string {
  const path = mkdtempSync('/dev/shm/tcpcrypt-checkpoint-');
  t.after(() => rmSync(path, { recursive: true }));
  return path;
}

/** Opens the log in `path` and returns it with what it complained about. */
function open(path: string): { log: CheckpointLog; complaints: TcpcryptError[] } {
  const complaints: TcpcryptError[] = [];
  return { log: new CheckpointLog(path, (error) => complaints.push(error)), complaints };
}

function read(path: string): { records: Record<string, string>; complaints: TcpcryptError[] } {
  const { log, complaints } = open(path);
  log.close();
  const entries = [...log.records()].map(([key, record]) => [key, Buffer.from(record).toString()]);
  return { records: Object.fromEntries(entries), complaints };
}

const bytes = (text: string): Uint8Array => Buffer.from(text);

test('what was put and not deleted is there after a restart', (t) => {
  const path = directory(t);
  const { log } = open(path);
  log.put('a', bytes('one'));
  log.put('b', bytes('two'));
  log.put('a', bytes('three'));
  log.put('gone', bytes('four'));
  log.delete('gone');
  log.delete('never there');
  log.put('empty', bytes(''));
  // No close: the process may be killed at any moment.
  assert.deepEqual(read(path), { records: { a: 'three', b: 'two', empty: '' }, complaints: [] });
});

test('a record is a copy: what the caller does with its bytes later does not matter', (t) => {
  const path = directory(t);
  const { log } = open(path);
  const mine = bytes('before');
  log.put('a', mine);
  mine.fill(0);
  for (let i = 0; i < 2000; i++) log.put('b', Buffer.alloc(100, i));
  assert.equal(read(path).records['a'], 'before');
});

test('killed in the middle of a write: at every byte, the records before it are read', (t) => {
  const path = directory(t);
  const file = join(path, checkpointFile());
  const { log } = open(path);
  const ends: [sizeBytes: number, records: Record<string, string>][] = [[statSync(file).size, {}]];
  const expected: Record<string, string> = {};
  for (const [key, value] of [
    ['a', 'one'],
    ['b', 'two'],
    ['a', undefined],
    ['a', 'again'],
  ] as const) {
    if (value === undefined) {
      log.delete(key);
      delete expected[key];
    } else {
      log.put(key, bytes(value));
      expected[key] = value;
    }
    ends.push([statSync(file).size, { ...expected }]);
  }
  const whole = readFileSync(file);
  assert.equal(whole.length, ends.at(-1)![0]);
  for (let size = ends[0]![0]; size <= whole.length; size++) {
    writeFileSync(file, whole.subarray(0, size));
    const [end, records] = ends.findLast(([sizeBytes]) => sizeBytes <= size)!;
    const got = read(path);
    assert.deepEqual(got.records, records, `cut at ${size}`);
    assert.deepEqual(
      got.complaints.map((error) => error.code),
      size === end ? [] : ['ERR_TCPCRYPT_STATE_INVALID'],
    );
  }
});

test('a damaged record is reported and ignored, at every bit; the others are read', (t) => {
  const path = directory(t);
  const file = join(path, checkpointFile());
  const { log } = open(path);
  log.put('first', bytes('1'));
  const start = statSync(file).size;
  log.put('second', bytes('2'));
  const end = statSync(file).size;
  log.put('third', bytes('3'));
  const whole = readFileSync(file);
  for (let at = start; at < end; at++) {
    const damaged = Buffer.from(whole);
    damaged[at]! ^= 1 << (at % 8);
    writeFileSync(file, damaged);
    const { records, complaints } = read(path);
    assert.ok(complaints.length > 0, `byte ${at}`);
    assert.equal(records['first'], '1');
    assert.equal(records['second'], undefined);
    // Behind a damaged length the rest may be lost, but is never read as something else.
    if (at >= start + 4) assert.equal(records['third'], '3');
    else assert.ok(records['third'] === undefined || records['third'] === '3');
  }
});

test('a file of something else, or of another version, is reported and replaced', (t) => {
  const path = directory(t);
  for (const content of ['', 'tcp', 'something else altogether', 'tcpcrypt\0\0\0\x09']) {
    writeFileSync(join(path, checkpointFile()), content);
    const { log, complaints } = open(path);
    assert.deepEqual([...complaints.map((error) => error.code)], ['ERR_TCPCRYPT_STATE_INVALID']);
    log.put('a', bytes('x'));
    assert.deepEqual(read(path), { records: { a: 'x' }, complaints: [] });
  }
});

test('the log is for its owner alone and stays small however much is written', (t) => {
  const path = directory(t);
  const file = join(path, checkpointFile());
  // What others can read already is not written into.
  writeFileSync(file, '', { mode: 0o644 });
  writeFileSync(`${file}.new`, '', { mode: 0o644 });
  const { log } = open(path);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  for (let i = 0; i < 20_000; i++) {
    log.put(`connection ${i % 50}`, Buffer.alloc(300, i));
    if (i % 3 === 0) log.delete(`connection ${(i + 7) % 50}`);
    assert.ok(statSync(file).size <= 64 << 10);
  }
  assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.deepEqual(readdirSync(path), [checkpointFile()]);
  assert.deepEqual(read(path).complaints, []);
});

test('logs of another number of workers: refused while a connection lives in one, else removed', (t) => {
  const path = directory(t);
  const names = () => readdirSync(path).sort();
  const logs = [0, 1].map((worker) => new CheckpointLog(path, () => {}, checkpointFile(worker, 2)));
  logs[1]!.put('a', Buffer.from('x'));
  writeFileSync(join(path, 'policy.json'), '{}');
  const before = names();
  assert.deepEqual(before, ['connections-1-of-2.log', 'connections-2-of-2.log', 'policy.json']);
  for (const workers of [1, 3]) {
    assert.throws(() => refuseOtherWorkers(path, workers), {
      code: 'ERR_TCPCRYPT_STATE_DIR',
      message: /2-of-2\.log has 1 connections of another number of workers/,
    });
  }
  refuseOtherWorkers(path, 2);
  assert.deepEqual(names(), before);
  logs[1]!.delete('a');
  refuseOtherWorkers(path, 1);
  assert.deepEqual(names(), ['policy.json']);
});

test('a state directory must be in memory', (t) => {
  const path = directory(t);
  openStateDirectory(join(path, 'made', 'with', 'parents'));
  assert.equal(statSync(join(path, 'made', 'with', 'parents')).mode & 0o777, 0o700);
  for (const bad of [import.meta.dirname, '/proc/nothing', join(import.meta.dirname, 'log.ts')]) {
    assert.throws(() => openStateDirectory(bad), { code: 'ERR_TCPCRYPT_STATE_DIR' });
  }
});
