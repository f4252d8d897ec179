/**
 * `--profile`: runs tcpcrypt under V8's profiler and says where the packet threads' time goes, by function and by file,
 * and how much of each thread's time the kernel has.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { TcpcryptError } from '../errors/catalogue.ts';
import { Bed, type BedOptions, PORTS } from './bed.ts';
import type { Counters, Row, Running, Sessions } from './contender.ts';
import { nodeOptions } from './contenders/tcpcrypt.ts';
import { increases, tcpCounters } from './counters.ts';
import { type CpuProfile, hasFile, type Share, selfTime } from './cpu-profile.ts';
import type { Measure, Values } from './figures.ts';
import { type Effort, take } from './measures.ts';
import { type ThreadTime, threadTimes, usedBetween } from './threads.ts';

export interface ProfileOptions extends Effort, BedOptions {
  readonly rows: readonly Row[];
  readonly say: (line: string) => void;
  readonly print: (text: string) => void;
}

const root = new URL('../', import.meta.url).pathname;
const PACKET_THREAD = '/runtime/packet-thread.ts';
const SAMPLE_EVERY_US = 500;
const SHOWN = 25;
const OWN_GROUPS: ReadonlySet<string> = new Set(['tcpcrypt', 'suite', 'key exchange']);

/** Throws ERR_TCPCRYPT_USAGE for a row that is not tcpcrypt. */
export async function profileRows(options: ProfileOptions): Promise<number> {
  for (const { name, group } of options.rows)
    if (!OWN_GROUPS.has(group))
      throw new TcpcryptError('ERR_TCPCRYPT_USAGE', `--profile is for rows of tcpcrypt, and ${name} is not`);
  for (const row of options.rows) {
    for (const measure of ['throughput', 'latency', 'new', 'cached'] as const)
      if (row.measures.includes(measure)) await profileOne(row, measure, options);
  }
  return 0;
}

async function profileOne(row: Row, measure: Measure, options: ProfileOptions): Promise<void> {
  const { folder, seconds, say, print } = options;
  say(`==> ${row.name}: ${measure}, ${seconds} s`);
  const profiles = mkdtempSync(join(folder, 'profile-'));
  const sessions: Sessions = measure === 'new' ? 'new' : 'cached';
  nodeOptions.value = `--cpu-prof --cpu-prof-dir=${profiles} --cpu-prof-interval=${SAMPLE_EVERY_US}`;
  try {
    using bed = new Bed(options);
    await bed.tool(bed.server, 'load', ['server', String(PORTS.echo)], 'listening');
    const running = await row.start(bed, sessions);
    const { pids } = running;
    const observed = await observe(bed, running, measure, options);
    const figures = Object.entries(observed.values).map(([name, value]) => `${name} ${value.toPrecision(4)}`);
    print(`\n${row.name}, ${measure}, with the profiler on: ${figures.join(', ')}\n`);
    for (const end of ['client', 'server'] as const) {
      const [pid] = pids[end];
      if (pid === undefined) continue;
      const used = usedBetween(observed.before.get(pid)!, observed.after.get(pid)!);
      const profile = packetThreadProfile(profiles, pid);
      print(section(`${row.name}, ${measure}, ${end}`, used, profile, observed, observed.counted[end]));
    }
  } finally {
    delete nodeOptions.value;
    rmSync(profiles, { recursive: true, force: true });
  }
}

interface Observed {
  readonly fromUs: number;
  readonly toUs: number;
  readonly before: ReadonlyMap<number, ThreadTime[]>;
  readonly after: ReadonlyMap<number, ThreadTime[]>;
  readonly values: Values;
  /** What each end counted meanwhile, tcpcrypt and the kernel's TCP. */
  readonly counted: Readonly<Record<End, readonly string[]>>;
}

type End = 'client' | 'server';

/** Takes the figures, and ends the contender, which then writes its profiles. */
async function observe(bed: Bed, running: Running, measure: Measure, effort: Effort): Promise<Observed> {
  await using contender = running;
  const pids = [...contender.pids.client, ...contender.pids.server];
  const look = () => new Map(pids.map((pid) => [pid, threadTimes(pid)]));
  const nowUs = () => Number(process.hrtime.bigint() / 1000n);
  const before = look();
  const countedBefore = countersOf(bed, contender);
  const fromUs = nowUs();
  const values = await take(bed, contender, measure, effort);
  const [toUs, after, countedAfter] = [nowUs(), look(), countersOf(bed, contender)];
  const rose = (end: End) => increases(countedBefore[end], countedAfter[end]);
  const counted = { client: rose('client'), server: rose('server') };
  return { fromUs, toUs, before, after, values, counted };
}

function countersOf(bed: Bed, { counters }: Running): Record<End, Counters> {
  const own = counters?.();
  const all = (end: End): Counters =>
    new Map([...(own?.[end] ?? []), ...tcpCounters(bed[end].run('cat', ['/proc/net/snmp']).stdout)]);
  return { client: all('client'), server: all('server') };
}

/** Node.js names a thread's profile CPU.date.time.pid.thread.number.cpuprofile. */
function packetThreadProfile(folder: string, pid: number): CpuProfile {
  for (const name of readdirSync(folder)) {
    if (name.split('.')[3] !== String(pid)) continue;
    const profile = JSON.parse(readFileSync(join(folder, name), 'utf8')) as CpuProfile;
    // The main thread has loaded nothing of the packet thread's.
    if (hasFile(profile, PACKET_THREAD)) return profile;
  }
  throw new Error('the packet thread wrote no profile');
}

/** One end's part of the output. */
function section(
  title: string,
  used: readonly ThreadTime[],
  profile: CpuProfile,
  observed: Observed,
  counted: readonly string[],
): string {
  const { fromUs, toUs } = observed;
  const seconds = (toUs - fromUs) / 1e6;
  const percent = (share: number): string => `${(share * 100).toFixed(1).padStart(6)} %`;
  const threads = used.map(
    ({ name, userSeconds, kernelSeconds }) =>
      `  ${percent(userSeconds / seconds)} user ${percent(kernelSeconds / seconds)} kernel  ${name}`,
  );
  const list = (shares: readonly Share[]): string[] =>
    shares.slice(0, SHOWN).map(({ name, share }) => `  ${percent(share)}  ${name}`);
  return [
    `\n${title}: ${seconds.toFixed(1)} s`,
    'threads, share of one core:',
    ...threads,
    'packet thread, self time by function (time asleep or in the kernel is with the function that waits there):',
    ...list(selfTime(profile, 'function', root, fromUs, toUs)),
    'the same by file:',
    ...list(selfTime(profile, 'file', root, fromUs, toUs)),
    'counted meanwhile:',
    ...counted.map((line) => `    ${line}`),
    '',
  ].join('\n');
}
