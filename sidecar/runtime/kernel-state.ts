/** Numbers that the kernel keeps, as files of /proc show them in this network namespace. */
import { readFileSync } from 'node:fs';
import { type ConntrackFill, conntrackNearFull } from '../../netfilter/sysctls.ts';

const CONNTRACK = '/proc/sys/net/netfilter/nf_conntrack';
const QUEUES = '/proc/self/net/netfilter/nfnetlink_queue';

export function isConntrackNearFull(): boolean {
  const count = number(`${CONNTRACK}_count`);
  const max = number(`${CONNTRACK}_max`);
  const fill: ConntrackFill | undefined =
    count === undefined || max === undefined ? undefined : { count, max };
  return conntrackNearFull(fill);
}

/** Packets that were dropped because a queue, or its socket's buffer, was full; by queue number. */
export function queueDrops(): Map<number, number> {
  return parseQueueStatistics(read(QUEUES) ?? '');
}

/**
 * Lines of: queue number, port id, packets waiting, copy mode, copy range, dropped because the queue was full,
 * dropped because the socket was, last id, 1 (net/netfilter/nfnetlink_queue.c, seq_show).
 */
export function parseQueueStatistics(text: string): Map<number, number> {
  const drops = new Map<number, number>();
  for (const line of text.split('\n')) {
    const [queue, , , , , full, socket] = line.trim().split(/\s+/).map(Number);
    if (queue !== undefined && full !== undefined && socket !== undefined) drops.set(queue, full + socket);
  }
  return drops;
}

function number(path: string): number | undefined {
  const text = read(path);
  return text === undefined ? undefined : Number(text);
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
