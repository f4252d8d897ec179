/** What counters say between two looks: tcpcrypt's metrics and the kernel's TCP. Pure. */
import type { Counters } from './contender.ts';

/** The lines `Tcp:` of /proc/net/snmp (proc_pid_net(5)): names, then values. */
export function tcpCounters(snmp: string): Counters {
  const [names = [], values = []] = snmp
    .split('\n')
    .filter((line) => line.startsWith('Tcp: '))
    .map((line) => line.split(' ').slice(1));
  return new Map(names.map((name, i) => [`kernel Tcp ${name}`, Number(values[i])]));
}

/** A line for each counter that rose. */
export function increases(before: Counters, after: Counters): string[] {
  return [...after]
    .map(([name, value]) => [name, value - (before.get(name) ?? 0)] as const)
    .filter(([, more]) => more > 0)
    .map(([name, more]) => `${more.toLocaleString('en-US', { maximumFractionDigits: 3 })}  ${name}`);
}
