/** The run: every row in every round, in an order drawn anew for each round, so that no row has the machine's best moment. */
import { Bed, type BedOptions, PORTS } from './bed.ts';
import { machineBusySeconds } from './cgroup.ts';
import { type Row, type Sessions, Unavailable } from './contender.ts';
import type { FigureName, Measure, Values } from './figures.ts';
import { type Effort, take } from './measures.ts';
import { randomFrom, shuffled } from './statistics.ts';

export interface RunOptions extends Effort, BedOptions {
  readonly rows: readonly Row[];
  readonly rounds: number;
  readonly seed: number;
  readonly cores: number;
  /** Called with one line for people. */
  readonly progress: (line: string) => void;
}

export interface RowResult {
  readonly name: string;
  /** A value for each round. */
  readonly samples: Partial<Record<FigureName, number[]>>;
  /** Why there is nothing: it cannot be had here. */
  skipped?: string;
  /** What went wrong, if anything: the row is then not whole. */
  readonly failures: string[];
  readonly remarks: Set<string>;
}

export interface RunResult {
  readonly rows: readonly RowResult[];
  /** Share of the machine that others used during each row, all cores together. */
  readonly othersShare: readonly number[];
  readonly seconds: number;
}

/** Those measures run in one bed, one after the other; the others need a contender that was just started. */
const GROUPS: readonly { readonly sessions: Sessions; readonly measures: readonly Measure[] }[] = [
  { sessions: 'cached', measures: ['throughput', 'latency', 'cached'] },
  { sessions: 'new', measures: ['new'] },
  { sessions: 'cached', measures: ['memory', 'crowd'] },
];

/** Memory hardly differs between rounds, and ten thousand handshakes take some contenders long. */
const onceOnly: ReadonlySet<Measure> = new Set(['memory', 'crowd']);

export async function runAll(options: RunOptions): Promise<RunResult> {
  const { rows, rounds, progress, cgroup, cores } = options;
  const began = performance.now();
  const results = new Map(rows.map((row) => [row, emptyResult(row)]));
  const othersShare: number[] = [];
  const random = randomFrom(options.seed);
  const total = rounds * rows.length;
  let done = 0;
  for (let round = 1; round <= rounds; round++) {
    for (const row of shuffled(rows, random)) {
      done++;
      const result = results.get(row)!;
      if (result.skipped !== undefined) continue;
      const start = performance.now();
      const [busy, own] = [machineBusySeconds(), cgroup.cpuSeconds()];
      const values = await measureRow(row, round, result, options);
      const elapsed = (performance.now() - start) / 1000;
      const others = machineBusySeconds() - busy - (cgroup.cpuSeconds() - own);
      othersShare.push(Math.max(0, others / elapsed / cores));
      const minutesLeft = (((performance.now() - began) / done) * (total - done)) / 60_000;
      const said = result.skipped ?? result.failures.at(-1) ?? summary(values);
      progress(
        `${done}/${total} round ${round} ${row.name}: ${said} (${elapsed.toFixed(0)} s; ${minutesLeft.toFixed(0)} min left)`,
      );
    }
  }
  return { rows: [...results.values()], othersShare, seconds: (performance.now() - began) / 1000 };
}

const emptyResult = (row: Row): RowResult => ({
  name: row.name,
  samples: {},
  failures: [],
  remarks: new Set(),
});

/** One row in one round. What fails is noted in the result; the run goes on. */
async function measureRow(row: Row, round: number, result: RowResult, options: RunOptions): Promise<Values> {
  const all: Values = {};
  for (const { sessions, measures } of GROUPS) {
    const wanted = measures.filter(
      (measure) =>
        row.measures.includes(measure) &&
        (round === 1 || !onceOnly.has(measure)) &&
        !(options.quick && measure === 'crowd'),
    );
    if (wanted.length === 0) continue;
    try {
      await measureIn(row, sessions, wanted, all, result, options);
    } catch (error) {
      if (error instanceof Unavailable) {
        result.skipped = error.message;
        break;
      }
      result.failures.push(`${wanted.join(', ')}: ${firstLine(error)}`);
    }
  }
  for (const [name, value] of Object.entries(all)) {
    const samples = result.samples[name as FigureName] ?? [];
    result.samples[name as FigureName] = samples;
    samples.push(value);
  }
  return all;
}

/** Adds to `values`. Throws if the contender cannot be started; a figure that cannot be taken is noted. */
async function measureIn(
  row: Row,
  sessions: Sessions,
  measures: readonly Measure[],
  values: Values,
  result: RowResult,
  options: RunOptions,
): Promise<void> {
  using bed = new Bed(options);
  await bed.tool(bed.server, 'load', ['server', String(PORTS.echo)], 'listening');
  await using running = await row.start(bed, sessions);
  for (const measure of measures) {
    try {
      Object.assign(values, await take(bed, running, measure, options));
    } catch (error) {
      result.failures.push(`${measure}: ${firstLine(error)}`);
    }
  }
  const asked = measures.includes('cached') ? 'cached' : 'new';
  for (const remark of running.remarks?.(asked) ?? []) result.remarks.add(remark);
}

const firstLine = (error: unknown): string => String((error as Error).message ?? error).split('\n', 1)[0];

function summary(values: Values): string {
  const { gbps1, new1, cached1, p50Byte, rss0 } = values;
  const parts = [
    gbps1 === undefined ? '' : `${gbps1.toFixed(2)} Gbit/s`,
    new1 === undefined ? '' : `${new1.toFixed(0)} new/s`,
    cached1 === undefined ? '' : `${cached1.toFixed(0)} cached/s`,
    p50Byte === undefined ? '' : `${p50Byte.toFixed(0)} µs`,
    rss0 === undefined ? '' : `${rss0.toFixed(0)} MB`,
  ];
  return parts.filter(Boolean).join(', ');
}
