/**
 * Settings of a namespace that the rules rely on: conntrack's and the devices' segment sizes. What was there before is
 * returned, for whoever keeps it until `restoreSettings`; /proc/sys must be writable (in a pod it is not: the CNI
 * plugin's part).
 */
import { accessSync, constants } from 'node:fs';
import { runIn, type Where } from './iptables.ts';

/**
 * In a container /proc/sys is read-only, but one that sees the node's processes finds the node's own mount of it. Which
 * namespace's settings stand there depends on who looks, not on the mount.
 */
const DIRECTORIES = ['/proc/sys/net/netfilter', '/proc/1/root/proc/sys/net/netfilter'];

/**
 * Three weeks. A timeout is kept as 32 bits of jiffies of which the top one is a sign, and a thousand jiffies a second
 * are the most there are: 24.8 days is the limit.
 */
export const LONG_TIMEOUT_SECONDS = 1_814_400;

/**
 * What is set, and what the kernel gives a new namespace (restored where nobody recorded better). The mark dies with
 * the entry, so the states that a living connection can be silent in last long. Not TIME_WAIT, CLOSE and the states of
 * setup: there the kernel's own timers are shorter, and entries must go or the table fills up.
 */
export const conntrackSettings: Readonly<Record<string, { readonly set: number; readonly kernel: number }>> =
  {
    // Conntrack sees one direction before the rewriter and one after it: sequence numbers do not add up.
    nf_conntrack_tcp_be_liberal: { set: 1, kernel: 0 },
    nf_conntrack_tcp_timeout_established: { set: LONG_TIMEOUT_SECONDS, kernel: 432_000 },
    nf_conntrack_tcp_timeout_fin_wait: { set: LONG_TIMEOUT_SECONDS, kernel: 120 },
    nf_conntrack_tcp_timeout_close_wait: { set: LONG_TIMEOUT_SECONDS, kernel: 60 },
    nf_conntrack_tcp_timeout_last_ack: { set: LONG_TIMEOUT_SECONDS, kernel: 30 },
    // These two replace the timeout of any state while segments are not acknowledged.
    nf_conntrack_tcp_timeout_max_retrans: { set: LONG_TIMEOUT_SECONDS, kernel: 300 },
    nf_conntrack_tcp_timeout_unacknowledged: { set: LONG_TIMEOUT_SECONDS, kernel: 300 },
  };

/** A netlink attribute holds 65531 bytes. GRO builds packets of up to one byte less than its limit. */
export const MAX_GRO_BYTES = 65_532;
/** TCP leaves 320 bytes of this for headers when it builds a super-segment. */
export const MAX_GSO_BYTES = 65_536;
const deviceLimits: Readonly<Record<string, number>> = {
  gso_max_size: MAX_GSO_BYTES,
  gso_ipv4_max_size: MAX_GSO_BYTES,
  gro_max_size: MAX_GRO_BYTES,
  gro_ipv4_max_size: MAX_GRO_BYTES,
};

/** What was there before, for `restoreSettings`. Plain JSON. */
export interface PreviousSettings {
  /** Sysctl name to value. */
  readonly conntrack: Readonly<Record<string, number>>;
  /** Device name to limit to bytes; only what was changed. */
  readonly devices: Readonly<Record<string, Readonly<Record<string, number>>>>;
}

export interface SettingsResult {
  readonly previous: PreviousSettings;
  /** What could not be set, in words; the rules work without, less well. */
  readonly refused: readonly string[];
}

/** Puts the settings in; never raises a limit. Nothing here is fatal: see `refused`. */
export async function applySettings(where: Where = {}): Promise<SettingsResult> {
  const refused: string[] = [];
  const conntrack: Record<string, number> = {};
  const now = await readConntrack(where, Object.keys(conntrackSettings));
  const changes: Record<string, number> = {};
  for (const [name, { set }] of Object.entries(conntrackSettings)) {
    if (now[name] === undefined) refused.push(`${name}: this kernel does not have it`);
    else if (now[name] !== set) changes[name] = set;
  }
  for (const name of await writeConntrack(where, changes, refused)) conntrack[name] = now[name]!;
  const devices: Record<string, Record<string, number>> = {};
  for (const [device, limits] of Object.entries(await readDevices(where))) {
    for (const [limit, most] of Object.entries(deviceLimits)) {
      const value = limits[limit];
      if (value === undefined || value <= most) continue;
      if (await setDevice(where, device, limit, most, refused)) {
        devices[device] ??= {};
        devices[device][limit] = value;
      }
    }
  }
  return { previous: { conntrack, devices }, refused };
}

/** Puts back what was there; without a record, what the kernel gives a new namespace. Devices may be gone. */
export async function restoreSettings(where: Where = {}, previous?: PreviousSettings): Promise<void> {
  const ignored: string[] = [];
  const values = previous?.conntrack ?? defaults();
  const known = Object.entries(values).filter(([name]) => name in conntrackSettings);
  await writeConntrack(where, Object.fromEntries(known), ignored);
  for (const [device, limits] of Object.entries(previous?.devices ?? {})) {
    for (const [limit, value] of Object.entries(limits)) {
      if (limit in deviceLimits) await setDevice(where, device, limit, value, ignored);
    }
  }
}

export interface ConntrackFill {
  /** Entries of this namespace. */
  readonly count: number;
  /** The most that any one namespace may have; the machine's setting, readable in all. */
  readonly max: number;
}

/** Undefined where conntrack is not to be seen. */
export async function conntrackFill(where: Where = {}): Promise<ConntrackFill | undefined> {
  const { nf_conntrack_count: count, nf_conntrack_max: max } = await readConntrack(where, [
    'nf_conntrack_count',
    'nf_conntrack_max',
  ]);
  return count === undefined || max === undefined ? undefined : { count, max };
}

/** So full that no new connection should be offered: the kernel itself throws out what it can from 95 % on. */
export function conntrackNearFull(fill: ConntrackFill | undefined, share = 0.9): boolean {
  return fill !== undefined && fill.max > 0 && fill.count >= fill.max * share;
}

function defaults(): Record<string, number> {
  return Object.fromEntries(Object.entries(conntrackSettings).map(([name, { kernel }]) => [name, kernel]));
}

/** Whether conntrack's settings can be changed here at all. */
export function settingsWritable(): boolean {
  return writableDirectory() !== undefined;
}

function directory(): string {
  return writableDirectory() ?? DIRECTORIES[0]!;
}

function writableDirectory(): string | undefined {
  return DIRECTORIES.find((path) => {
    try {
      accessSync(`${path}/nf_conntrack_tcp_be_liberal`, constants.W_OK);
      return true;
    } catch {
      return false;
    }
  });
}

async function readConntrack(where: Where, names: readonly string[]): Promise<Record<string, number>> {
  const files = names.map((name) => `${directory()}/${name}`);
  const { stdout } = await runIn(where, 'grep', ['-H', '', ...files]);
  const lines = stdout.split('\n').map((line) => /([a-z_]+):(\d+)$/.exec(line));
  return Object.fromEntries(
    lines.filter((found) => found !== null).map((found) => [found[1], Number(found[2])]),
  );
}

/** Returns the names of those that took their value. One process for each value, not for each name. */
async function writeConntrack(
  where: Where,
  values: Readonly<Record<string, number>>,
  refused: string[],
): Promise<string[]> {
  const written: string[] = [];
  for (const value of new Set(Object.values(values))) {
    const names = Object.keys(values).filter((name) => values[name] === value);
    const files = names.map((name) => `${directory()}/${name}`);
    const { status, stderr } = await runIn(where, 'tee', files, `${value}\n`);
    // It goes on after a file that it cannot write, and names it.
    const failed = names.filter((name) => status !== 0 && (status === 127 || stderr.includes(`/${name}`)));
    refused.push(...failed.map((name) => `${name}: ${stderr.trim()}`));
    written.push(...names.filter((name) => !failed.includes(name)));
  }
  return written;
}

/** Limits as iproute2 prints them; a version that does not know one does not print it. */
async function readDevices(where: Where): Promise<Record<string, Record<string, number>>> {
  const { status, stdout } = await runIn(where, 'ip', ['-details', '-json', 'link', 'show']);
  if (status !== 0) return {};
  const links = JSON.parse(stdout) as Record<string, unknown>[];
  const entries = links
    .filter((link) => link['ifname'] !== undefined && link['ifname'] !== 'lo')
    .map((link) => {
      const limits = Object.keys(deviceLimits).filter((limit) => typeof link[limit] === 'number');
      return [link['ifname'], Object.fromEntries(limits.map((limit) => [limit, link[limit]]))];
    });
  return Object.fromEntries(entries);
}

async function setDevice(
  where: Where,
  device: string,
  limit: string,
  bytes: number,
  refused: string[],
): Promise<boolean> {
  const args = ['link', 'set', 'dev', device, limit, String(bytes)];
  const { status, stderr } = await runIn(where, 'ip', args);
  if (status !== 0) refused.push(`${device} ${limit}: ${stderr.trim()}`);
  return status === 0;
}
