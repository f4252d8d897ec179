import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { build, executable, start, temporaryFolder } from './testing.ts';

before(() => build());

const supervise = (script: string, ...options: string[]) =>
  start(['supervise', ...options, '--', 'sh', '-c', script]);

async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; !condition(); tries++) {
    assert.ok(tries < 1000, 'it never happened');
    await sleep(10);
  }
}

/** How often a counting script has started. */
const starts = (file: string): number => {
  try {
    return readFileSync(file, 'utf8').length;
  } catch {
    return 0;
  }
};

describe('supervise', () => {
  test('starts the command again at once, however it ended', async () => {
    using folder = temporaryFolder();
    const file = join(folder.path, 'starts');
    // The first ends well, the second fails, the third is killed.
    const script = `printf x >>${file}; case $(wc -c <${file}) in 1) exit 0;; 2) exit 3;; 3) kill -9 $$;; esac; echo up; exec sleep 60`;
    const run = supervise(script);
    await until(() => run.stdout().includes('up'));
    run.child.kill('SIGTERM');
    const { status, stderr } = await run.finished;
    assert.equal(starts(file), 4);
    assert.equal(status, 128 + 15);
    const lines = stderr
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    assert.deepEqual(
      lines.map(({ msg }) => /status (\d+)/.exec(msg)?.[1]),
      ['0', '3', '137'],
    );
  });

  test('forwards signals, and ends with the status of the command', async () => {
    const script =
      'trap "echo hup" HUP; trap "echo usr1" USR1; trap "echo term; exit 7" TERM; echo up; while :; do sleep 0.01; done';
    const run = supervise(script);
    await until(() => run.stdout().includes('up'));
    run.child.kill('SIGHUP');
    await until(() => run.stdout().includes('hup'));
    run.child.kill('SIGUSR1');
    await until(() => run.stdout().includes('usr1'));
    run.child.kill('SIGTERM');
    assert.deepEqual((await run.finished).status, 7);
  });

  test('a command that is wrong is not tried again', async () => {
    const wrong = await supervise('exit 2').finished;
    assert.equal(wrong.status, 2);
    const missing = await start(['supervise', '--', '/nonexistent']).finished;
    assert.equal(missing.status, 127);
    assert.match(missing.stderr, /cannot be started: No such file/);
  });

  test('after too many crashes it waits, and tries again', async () => {
    using folder = temporaryFolder();
    const file = join(folder.path, 'starts');
    const run = supervise(`printf x >>${file}; exit 1`, '--crashes', '3', '--window', '1');
    await until(() => run.stderr().includes('new connections are plain'));
    assert.equal(starts(file), 3);
    await until(() => starts(file) === 6);
    await until(() => run.stderr().split('new connections are plain').length === 3);
    run.child.kill('SIGTERM');
    // It ends in the pause as well.
    assert.equal((await run.finished).status, 1);
    assert.equal(starts(file), 6);
  });

  test('takes in orphans, and its death ends the command', async () => {
    using folder = temporaryFolder();
    const file = join(folder.path, 'pid');
    // Made the reaper of orphans, as the first process of a container is.
    const reaper = `import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1); os.execv(sys.argv[1], sys.argv[1:])`;
    const script = `sh -c 'sleep 0 & echo $! >${file}'; echo up; exec sleep 60`;
    const child = spawn('python3', ['-c', reaper, executable, 'supervise', '--', 'sh', '-c', script]);
    const children = (): string =>
      readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').trim();
    let command = '';
    try {
      await once(child.stdout, 'data');
      const orphan = readFileSync(file, 'utf8').trim();
      await until(() => !isThere(orphan));
      // Dead is not buried yet.
      await until(() => /^\d+$/.test(children()));
      command = children();
    } finally {
      child.kill('SIGKILL');
    }
    await until(() => !isThere(command));
  });

  for (const args of [
    [],
    ['--'],
    ['--crashes', '0', '--', 'true'],
    ['--window', 'x', '--', 'true'],
    ['--x', '1', '--', 'true'],
  ]) {
    test(`wrong usage: supervise ${args.join(' ')}`, async () => {
      const { status, stderr } = await start(['supervise', ...args]).finished;
      assert.equal(status, 2);
      assert.match(stderr, /ERR_TCPCRYPT_USAGE/);
    });
  }
});

/** A zombie is not. */
function isThere(pid: string): boolean {
  try {
    return !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}
