/** Numbers that the kernel keeps, as files of /proc show them in this network namespace. */
import { readFileSync } from 'node:fs';
import { type ConntrackFill, conntrackNearFull } from '../../netfilter/sysctls.ts';
import { formatAddress } from '../wire/packet.ts';

const CONNTRACK = '/proc/sys/net/netfilter/nf_conntrack';
const NOWHERE4 = '0'.repeat(8);
const NOWHERE6 = '0'.repeat(32);
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

/** Addresses of the default routes' next hops. */
export function gateways(): string[] {
  return [
    ...parseRoutes4(read('/proc/net/route') ?? ''),
    ...parseRoutes6(read('/proc/net/ipv6_route') ?? ''),
  ];
}

/** proc(5): device, destination, gateway, flags, three numbers, mask, ...; addresses in hex, of the machine's byte order. */
export function parseRoutes4(text: string): string[] {
  return text.split('\n').flatMap((line) => {
    const [, destination, gateway = '', , , , , mask] = line.split('\t');
    if (
      destination !== NOWHERE4 ||
      mask !== NOWHERE4 ||
      !/^[0-9A-F]{8}$/.test(gateway) ||
      gateway === NOWHERE4
    )
      return [];
    return [formatAddress(Buffer.from(gateway, 'hex').reverse())];
  });
}

/** Linux, net/ipv6/route.c, rt6_proc: destination and its prefix, source and its prefix, next hop, ...; addresses in hex. */
export function parseRoutes6(text: string): string[] {
  return text.split('\n').flatMap((line) => {
    const [destination, prefix, , , gateway = ''] = line.split(' ');
    if (
      destination !== NOWHERE6 ||
      prefix !== '00' ||
      !/^[0-9a-f]{32}$/.test(gateway) ||
      gateway === NOWHERE6
    )
      return [];
    return [formatAddress(Buffer.from(gateway, 'hex'))];
  });
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
