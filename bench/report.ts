/** The result as data (what --json writes) and as a table, for a terminal and in Markdown. Pure. */
import { FIGURE_NAMES, FIGURES, type FigureName } from './figures.ts';
import type { RunResult } from './run.ts';
import { median, spread } from './statistics.ts';

export interface ReportedRow {
  readonly name: string;
  readonly group: string;
  readonly about: string;
  /** Medians over the rounds. */
  readonly figures: Partial<Record<FigureName, number>>;
  /** To plain TCP's median in the same run, where that says anything. */
  readonly ratios: Partial<Record<FigureName, number>>;
  /** (largest - smallest) / median over the rounds. */
  readonly spreads: Partial<Record<FigureName, number>>;
  readonly skipped?: string;
  readonly failures?: readonly string[];
  readonly remarks?: readonly string[];
}

export interface Report {
  readonly format: 1;
  readonly machine: {
    readonly cores: number;
    readonly kernel: string;
    readonly architecture: string;
    readonly node: string;
  };
  readonly rounds: number;
  readonly seconds: number;
  readonly seed: number;
  readonly mtu: number;
  readonly quick: boolean;
  readonly tookSeconds: number;
  /** Connections that `rss10000` was taken with: fewer than 10,000 where open files are limited. */
  readonly mostConnections: number;
  /** Median share of all cores that other programs used meanwhile. */
  readonly othersShare: number;
  readonly rows: readonly ReportedRow[];
}

export interface Circumstances {
  readonly machine: Report['machine'];
  readonly rounds: number;
  readonly seconds: number;
  readonly seed: number;
  readonly mtu: number;
  readonly quick: boolean;
  readonly mostConnections: number;
  readonly rows: readonly { readonly name: string; readonly group: string; readonly about: string }[];
}

export function makeReport(run: RunResult, { rows, ...circumstances }: Circumstances): Report {
  const medians = new Map(run.rows.map((row) => [row.name, overRounds(row.samples, median)]));
  const plain = medians.get('plain') ?? {};
  return {
    format: 1,
    ...circumstances,
    tookSeconds: Math.round(run.seconds),
    othersShare: run.othersShare.length === 0 ? 0 : rounded(median(run.othersShare)),
    rows: run.rows.map(({ name, samples, skipped, failures, remarks }) => {
      const { group, about } = rows.find((row) => row.name === name)!;
      const figures = medians.get(name)!;
      return {
        ...{ name, group, about, figures },
        ratios: ratios(figures, plain),
        spreads: overRounds(samples, (values) => rounded(spread(values))),
        ...(skipped !== undefined && { skipped }),
        ...(failures.length > 0 && { failures }),
        ...(remarks.size > 0 && { remarks: [...remarks] }),
      };
    }),
  };
}

const rounded = (value: number): number => Number(value.toPrecision(4));

function overRounds(
  samples: Partial<Record<FigureName, number[]>>,
  of: (values: readonly number[]) => number,
): Partial<Record<FigureName, number>> {
  return Object.fromEntries(
    Object.entries(samples).map(([name, values]) => [name, rounded(of(values))]),
  ) as Partial<Record<FigureName, number>>;
}

function ratios(figures: ReportedRow['figures'], plain: ReportedRow['figures']): ReportedRow['ratios'] {
  const out: Partial<Record<FigureName, number>> = {};
  for (const name of FIGURE_NAMES) {
    // Plain TCP has no sessions; what is resumed elsewhere is compared with a connection that is just opened.
    const base = plain[name === 'cached1' ? 'new1' : name === 'cached32' ? 'new32' : name];
    const value = figures[name];
    if (FIGURES[name].ratio && value !== undefined && base) out[name] = rounded(value / base);
  }
  return out;
}

const grouped = (value: number, digits: number): string =>
  value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits });

const valueText = ({ figures }: ReportedRow, name: FigureName): string =>
  figures[name] === undefined ? '-' : grouped(figures[name], FIGURES[name].digits);

const ratioText = ({ ratios }: ReportedRow, name: FigureName): string =>
  ratios[name] === undefined ? '' : `×${grouped(ratios[name], 2)}`;

/** Columns that any row has. */
const usedFigures = (rows: readonly ReportedRow[]): FigureName[] =>
  FIGURE_NAMES.filter((name) => rows.some((row) => row.figures[name] !== undefined));

const measured = ({ rows }: Report): readonly ReportedRow[] =>
  rows.filter((row) => Object.keys(row.figures).length > 0);

/** For a terminal: two lines a row, the values and below them their ratios to plain TCP. */
export function terminalTable(report: Report): string {
  const rows = measured(report);
  const names = usedFigures(rows);
  const columns = [
    ['', '', ...rows.flatMap((row) => [row.name, ''])],
    ...names.map((name) => [
      ...FIGURES[name].head,
      ...rows.flatMap((row) => [valueText(row, name), ratioText(row, name)]),
    ]),
  ];
  const widths = columns.map((column) => Math.max(...column.map((cell) => cell.length)));
  const lines = columns[0].map((_, line) =>
    columns
      .map((column, i) => (i === 0 ? column[line].padEnd(widths[i]) : column[line].padStart(widths[i])))
      .join('  ')
      .trimEnd(),
  );
  return [...lines.filter((line) => line !== ''), '', ...notes(report)].join('\n');
}

/** Markdown: a value and its ratio to plain TCP in a cell. */
export function markdownTable(report: Report): string {
  const rows = measured(report);
  const names = usedFigures(rows);
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  const cell = (row: ReportedRow, name: FigureName): string =>
    [valueText(row, name), ratioText(row, name)].filter(Boolean).join(' ');
  return [
    line(['', ...names.map((name) => FIGURES[name].head.join(', '))]),
    line(['---', ...names.map(() => '---:')]),
    ...rows.map((row) => line([row.name, ...names.map((name) => cell(row, name))])),
    '',
    ...notes(report).map((note) => `- ${note}`),
  ].join('\n');
}

/** What must be known to read the figures. */
export function notes(report: Report): string[] {
  const { machine, rounds, seconds, seed, mtu, quick, tookSeconds, othersShare, rows } = report;
  const said = [
    `${machine.cores} cores, ${machine.architecture}, Linux ${machine.kernel}, Node.js ${machine.node}`,
    `${rounds} round${rounds === 1 ? '' : 's'} of ${seconds} s, order by seed ${seed}, MTU ${mtu}, ${Math.ceil(tookSeconds / 60)} min; other programs used ${(othersShare * 100).toFixed(0)} % of the machine`,
  ];
  if (quick) said.push('a quick run: it shows that everything works; the figures mean nothing');
  if (othersShare > 0.05) said.push('the machine was not idle: compare ratios, not values');
  if (report.mostConnections < 10_000)
    said.push(`the limit of open files: ${grouped(report.mostConnections, 0)} connections instead of 10,000`);
  for (const { name, skipped, failures, remarks } of rows) {
    if (skipped !== undefined) said.push(`${name}: not measured: ${skipped}`);
    for (const failure of failures ?? []) said.push(`${name}: failed: ${failure}`);
    for (const remark of remarks ?? []) said.push(`${name}: ${remark}`);
  }
  return said;
}
