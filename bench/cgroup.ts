/**
 * A control group for everything that a row runs: what its CPU time is read from, and how all of it is ended.
 *
 * Counted are the processes of both ends, applications included, with the kernel's work in their name, and the
 * ksoftirqd threads, which do network work in nobody's name. Other people's processes on the machine are not.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Unavailable } from './contender.ts';

const PREFIX = 'tcpcrypt-bench-';

/** The mount point of the unified hierarchy; undefined where there is none. */
function mountPoint(): string | undefined {
  const mounts = readFileSync('/proc/mounts', 'utf8').split('\n');
  return mounts.find((line) => line.split(' ')[2] === 'cgroup2')?.split(' ')[1];
}

/** Pids of the threads that the kernel has one a core for softirqs that nobody else runs. */
function softirqThreads(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => readText(`/proc/${pid}/comm`).startsWith('ksoftirqd/'));
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** Microseconds that a process has been on a CPU. */
const onCpuUs = (pid: number): number => Number(readText(`/proc/${pid}/schedstat`).split(' ')[0]) / 1000;

export class Cgroup implements Disposable {
  readonly #path: string;
  readonly #softirqs = softirqThreads();

  /** Throws `Unavailable` where the system has no cgroup v2. */
  constructor() {
    const root = mountPoint();
    if (root === undefined)
      throw new Unavailable('needs a mounted cgroup v2 hierarchy: CPU time is read from there');
    sweep(root);
    this.#path = join(root, `${PREFIX}${process.pid}`);
    mkdirSync(this.#path);
  }

  /** A command that runs the given one inside, with as many open files as are allowed. */
  inside(command: string, args: readonly string[]): readonly string[] {
    const enter = 'echo 0 >"$0/cgroup.procs" && ulimit -n "$(ulimit -Hn)" && exec "$@"';
    return ['sh', '-c', enter, this.#path, command, ...args];
  }

  /** Takes in a process that runs already, with all its threads. */
  add(pid: number): void {
    writeFileSync(join(this.#path, 'cgroup.procs'), String(pid));
  }

  /** CPU time since the group was made, in seconds. */
  cpuSeconds(): number {
    const stat = readFileSync(join(this.#path, 'cpu.stat'), 'utf8');
    const own = Number(/^usage_usec (\d+)/m.exec(stat)?.[1]);
    return (own + this.#softirqs.reduce((sum, pid) => sum + onCpuUs(pid), 0)) / 1e6;
  }

  /** Ends every process inside and removes the group; waits at most a second for the kernel to let go. */
  [Symbol.dispose](): void {
    remove(this.#path);
  }
}

/** Groups of runs that died. */
function sweep(root: string): void {
  for (const name of readdirSync(root)) {
    if (!name.startsWith(PREFIX) || existsSync(`/proc/${name.slice(PREFIX.length)}`)) continue;
    remove(join(root, name));
  }
}

function remove(path: string): void {
  if (!existsSync(path)) return;
  const gate = new Int32Array(new SharedArrayBuffer(4));
  for (let tries = 0; tries < 100; tries++) {
    try {
      for (const pid of readFileSync(join(path, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean))
        process.kill(Number(pid), 'SIGKILL');
    } catch {
      // One ended meanwhile.
    }
    try {
      return rmdirSync(path);
    } catch {
      Atomics.wait(gate, 0, 0, 10);
    }
  }
}

/** Seconds that all CPUs together were busy, since the system started (proc(5), /proc/stat, in ticks of 10 ms). */
export function machineBusySeconds(): number {
  const [user, nice, system, , , irq, softirq] = readFileSync('/proc/stat', 'utf8')
    .split('\n', 1)[0]
    .trim()
    .split(/\s+/)
    .slice(1)
    .map(Number);
  return (user + nice + system + irq + softirq) / 100;
}
