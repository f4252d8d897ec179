/** CPU time of a process's threads, in user space and in the kernel (proc_pid_stat(5)). */
import { readdirSync, readFileSync } from 'node:fs';

export interface ThreadTime {
  readonly tid: number;
  readonly name: string;
  readonly userSeconds: number;
  readonly kernelSeconds: number;
}

/** USER_HZ, which is 100 on every architecture that we run on. */
const TICKS = 100;

/** Parses /proc/PID/task/TID/stat. The name is in parentheses and may hold some itself. */
export function parseThread(stat: string): ThreadTime {
  const open = stat.indexOf('(');
  const close = stat.lastIndexOf(')');
  const fields = stat.slice(close + 2).split(' ');
  return {
    tid: Number(stat.slice(0, open)),
    name: stat.slice(open + 1, close),
    userSeconds: Number(fields[11]) / TICKS,
    kernelSeconds: Number(fields[12]) / TICKS,
  };
}

export function threadTimes(pid: number): ThreadTime[] {
  return readdirSync(`/proc/${pid}/task`).flatMap((tid) => {
    try {
      return [parseThread(readFileSync(`/proc/${pid}/task/${tid}/stat`, 'utf8'))];
    } catch {
      return []; // It ended meanwhile.
    }
  });
}

/** What each thread used between two looks; threads that used nothing are left out, the busiest comes first. */
export function usedBetween(before: readonly ThreadTime[], after: readonly ThreadTime[]): ThreadTime[] {
  return after
    .map((thread) => {
      const earlier = before.find(({ tid }) => tid === thread.tid);
      return {
        ...thread,
        userSeconds: thread.userSeconds - (earlier?.userSeconds ?? 0),
        kernelSeconds: thread.kernelSeconds - (earlier?.kernelSeconds ?? 0),
      };
    })
    .filter(({ userSeconds, kernelSeconds }) => userSeconds + kernelSeconds > 0)
    .sort((a, b) => b.userSeconds + b.kernelSeconds - a.userSeconds - a.kernelSeconds);
}
