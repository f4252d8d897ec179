import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseThread, threadTimes, usedBetween } from './threads.ts';

test('proc_pid_stat(5): utime and stime, behind a name with spaces and parentheses', () => {
  const stat = '4711 (a (b) c) S 1 4711 4711 0 -1 4194560 500 0 0 0 250 75 0 0 20 0 11 0 100';
  assert.deepEqual(parseThread(stat), { tid: 4711, name: 'a (b) c', userSeconds: 2.5, kernelSeconds: 0.75 });
});

test('usedBetween: differences, new threads whole, idle ones left out', () => {
  const thread = (tid: number, userSeconds: number, kernelSeconds: number) => ({
    ...{ tid, name: 'x', userSeconds, kernelSeconds },
  });
  const before = [thread(1, 1, 1), thread(2, 5, 5)];
  const after = [thread(1, 1.5, 1), thread(2, 5, 5), thread(3, 0, 2)];
  assert.deepEqual(usedBetween(before, after), [thread(3, 0, 2), thread(1, 0.5, 0)]);
});

test('this process has a thread that has used time', () => {
  const own = threadTimes(process.pid).find(({ tid }) => tid === process.pid);
  assert.ok(own !== undefined && own.userSeconds > 0);
});
