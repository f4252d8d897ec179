/** How each figure is taken from a contender that runs. The applications are iperf3 and our own load generator. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ended, eventually, finished, saying, sleep } from '../test/kernel/support/processes.ts';
import { type Bed, BIN, MOST_CONNECTIONS, PORTS } from './bed.ts';
import type { Running } from './contender.ts';
import type { Measure, Values } from './figures.ts';

export interface Effort {
  /** Of each transfer, whole seconds, as iperf3 wants them. */
  readonly seconds: number;
  /** Short: less than a second of everything, no warm-up, no ten thousand connections. */
  readonly quick: boolean;
}

/** Before a figure is taken its path is used for so long: caches, just-in-time compilers, windows. */
const WARM_UP_SECONDS = 1;
const QUICK_SECONDS = 0.5;
const SETTLE_MS = 500;
/** Ten thousand handshakes at some hundred a second. */
const HOLD_LIMIT_MS = 120_000;
const GB = 1e9;
/** Share of connections that may be plain by the way: one whose handshake took too long on a busy machine. */
const MOST_PLAIN = 0.01;

type Take = (bed: Bed, running: Running, effort: Effort) => Promise<Values>;

async function iperf(bed: Bed, running: Running, streams: number, seconds: number) {
  const { address, port } = running.to('iperf');
  const before = bed.cgroup.cpuSeconds();
  const args = ['-c', address, '-p', String(port), '-J', '-t', String(seconds), '-P', String(streams)];
  const client = bed.start(bed.client, 'iperf3', [...args, '--connect-timeout', '5000']);
  const { stdout, stderr } = await finished(client, seconds * 1000 + 30_000);
  const { end, error } = stdout === '' ? { error: stderr || 'it said nothing' } : JSON.parse(stdout);
  if (error !== undefined) throw new Error(`iperf3: ${error}`);
  const bytes: number = end.sum_received.bytes;
  if (bytes === 0) throw new Error('iperf3 moved no byte');
  return {
    gbps: (end.sum_received.bits_per_second as number) / GB,
    cpuPerGb: (bed.cgroup.cpuSeconds() - before) / (bytes / GB),
  };
}

const throughput: Take = async (bed, running, { seconds, quick }) => {
  const server = bed.start(bed.server, 'iperf3', ['-s', '-p', String(PORTS.iperf)], { stdio: 'ignore' });
  const listens = () => bed.server.run('ss', ['-Hltn', `sport = ${PORTS.iperf}`]).stdout !== '';
  await eventually(listens, 'iperf3 listens');
  if (!quick) await iperf(bed, running, 8, WARM_UP_SECONDS);
  const one = await iperf(bed, running, 1, seconds);
  const eight = await iperf(bed, running, 8, seconds);
  await ended(server);
  return { gbps1: one.gbps, cpu1: one.cpuPerGb, gbps8: eight.gbps, cpu8: eight.cpuPerGb };
};

/** Runs the load generator at the client to its end. */
async function load(
  bed: Bed,
  running: Running,
  what: 'connections' | 'pingpong',
  size: number,
  seconds: number,
) {
  const { address, port } = running.to('echo');
  const args = [what, address, String(port), String(size), String(seconds)];
  const { code, stdout, stderr } = await finished(bed.start(bed.client, join(BIN, 'load'), args), 60_000);
  if (code !== 0) throw new Error(stderr.trim() || `load ${what} ended with ${code}`);
  return JSON.parse(stdout);
}

async function rate(bed: Bed, running: Running, clients: number, { seconds, quick }: Effort) {
  if (!quick) await load(bed, running, 'connections', clients, WARM_UP_SECONDS);
  const { countsEncrypted } = running;
  const before = countsEncrypted ? encrypted(running) : 0;
  const result = await load(bed, running, 'connections', clients, quick ? QUICK_SECONDS : seconds);
  const { connections, failed, error } = result;
  if (failed > 0) throw new Error(`${failed} of ${connections + failed} connections failed: ${error}`);
  const counted = countsEncrypted ? encrypted(running) - before : connections;
  return counted / result.seconds;
}

function encrypted({ plainConnections }: Running): number {
  const { plain, all } = plainConnections?.() ?? { plain: 0, all: 0 };
  return all - plain;
}

const latency: Take = async (bed, running, { seconds, quick }) => {
  const take = async (bytes: number) => {
    if (!quick) await load(bed, running, 'pingpong', bytes, WARM_UP_SECONDS / 2);
    return load(bed, running, 'pingpong', bytes, quick ? QUICK_SECONDS : seconds);
  };
  const byte = await take(1);
  const kib = await take(1024);
  return { p50Byte: byte.p50Us, p99Byte: byte.p99Us, p50Kib: kib.p50Us, p99Kib: kib.p99Us };
};

/** Resident memory of processes (proc_pid_status(5), VmRSS), in MB of 10^6 bytes. */
function residentMb(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => {
    const kib = Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
    return sum + (kib * 1024) / 1e6;
  }, 0);
}

/** The mean of both ends. An end that has no process does not count. */
function residentNow({ pids }: Running): number {
  const ends = [pids.client, pids.server].filter((each) => each.length > 0);
  return ends.reduce((sum, each) => sum + residentMb(each), 0) / ends.length;
}

/** Opens so many connections more, which stay open until the bed is gone; then resident memory. */
async function residentWith(more: number, bed: Bed, running: Running): Promise<number> {
  const { address, port } = running.to('echo');
  const child = bed.start(bed.client, join(BIN, 'load'), ['hold', address, String(port), String(more)], {
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const output: Buffer[] = [];
  child.stdout?.on('data', (chunk: Buffer) => output.push(chunk));
  await saying(child, 'holding', HOLD_LIMIT_MS);
  const { failed, error } = JSON.parse(Buffer.concat(output).toString().replace('holding ', ''));
  if (failed > 0) throw new Error(`${failed} of ${more} connections could not be held: ${error}`);
  await sleep(SETTLE_MS);
  return residentNow(running);
}

const memory: Take = async (bed, running) => {
  await sleep(SETTLE_MS);
  const rss0 = residentNow(running);
  return { rss0, rss1000: await residentWith(1000, bed, running) };
};

/** After `memory`, whose connections are still open. */
const crowd: Take = async (bed, running) => ({
  rss10000: await residentWith(MOST_CONNECTIONS - 1000, bed, running),
});

const takes: Readonly<Record<Measure, Take>> = {
  throughput,
  latency,
  memory,
  crowd,
  new: async (bed, running, effort) => ({
    new1: await rate(bed, running, 1, effort),
    new32: await rate(bed, running, 32, effort),
  }),
  cached: async (bed, running, effort) => ({
    cached1: await rate(bed, running, 1, effort),
    cached32: await rate(bed, running, 32, effort),
  }),
};

/**
 * Takes the figures of one measure; the echo server runs meanwhile. Throws if connections that should have been
 * encrypted were not: a figure of plain TCP in a row that says otherwise would be a lie.
 */
export async function take(bed: Bed, running: Running, measure: Measure, effort: Effort): Promise<Values> {
  const before = running.plainConnections?.() ?? { plain: 0, all: 0, why: '' };
  const values = await takes[measure](bed, running, effort);
  const after = running.plainConnections?.() ?? before;
  const [plain, all] = [after.plain - before.plain, after.all - before.all];
  if (plain > MOST_PLAIN * all && !running.countsEncrypted)
    throw new Error(`${plain} of ${all} connections were plain: ${after.why}`);
  return values;
}
