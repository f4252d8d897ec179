/** A pod's processes, as its node sees them. */
import type { Machine } from '../machine.ts';

export interface Process {
  /** As its node knows it. */
  readonly pid: number;
  /** In ticks since the machine started: proc(5), /proc/pid/stat, field 22. */
  readonly startedAt: number;
  readonly commandLine: string;
}

/** Of each process in a pod's control groups: its id, when it started, its command line. One may end meanwhile. */
const PROCESSES = `grep -ls "pod$1" /proc/[0-9]*/cgroup | while IFS=/ read -r _ _ pid _; do
  stat=$(cat "/proc/$pid/stat" 2>/dev/null) || continue
  echo "$pid $(echo "\${stat##*) }" | cut -d ' ' -f 20) $(tr '\\0' ' ' <"/proc/$pid/cmdline")"; done`;

/** All of a pod's processes, the eldest first. */
export function podProcesses(node: Machine, podUid: string): Process[] {
  const { stdout } = node.run('sh', ['-c', PROCESSES, 'sh', podUid]);
  return [...stdout.matchAll(/^(\d+) (\d+) (.*)$/gm)]
    .map(([, pid, startedAt, commandLine]) => ({
      pid: Number(pid),
      startedAt: Number(startedAt),
      commandLine: commandLine!.trim(),
    }))
    .sort((a, b) => a.startedAt - b.startedAt);
}

export function signal(node: Machine, { pid }: Process, name: 'KILL' | 'STOP' | 'CONT'): void {
  node.run('kill', [`-${name}`, String(pid)]);
}
