/** The columns of the table: what is measured, in which unit, and which way is better. Pure. */

/** What is run together; a row says which of them it takes part in. */
export type Measure = 'throughput' | 'new' | 'cached' | 'latency' | 'memory' | 'crowd';
export const MEASURES: readonly Measure[] = ['throughput', 'new', 'cached', 'latency', 'memory', 'crowd'];

export interface Figure {
  readonly measure: Measure;
  /** Two lines over the column. */
  readonly head: readonly [string, string];
  readonly unit: string;
  readonly digits: number;
  readonly better: 'more' | 'less';
  /** Whether the ratio to plain TCP says anything: plain TCP needs no process, so no memory. */
  readonly ratio: boolean;
}

const throughput = { measure: 'throughput', unit: 'Gbit/s', digits: 2, better: 'more', ratio: true } as const;
const cpu = { measure: 'throughput', unit: 's/GB', digits: 2, better: 'less', ratio: true } as const;
const rate = { unit: '/s', digits: 0, better: 'more', ratio: true } as const;
const latency = { measure: 'latency', unit: 'µs', digits: 0, better: 'less', ratio: true } as const;
const memory = { measure: 'memory', unit: 'MB', digits: 1, better: 'less', ratio: false } as const;

export const FIGURES = {
  gbps1: { ...throughput, head: ['Gbit/s', '1 stream'] },
  gbps8: { ...throughput, head: ['Gbit/s', '8 streams'] },
  cpu1: { ...cpu, head: ['CPU s/GB', '1 stream'] },
  cpu8: { ...cpu, head: ['CPU s/GB', '8 streams'] },
  new1: { ...rate, measure: 'new', head: ['new/s', '1 client'] },
  new32: { ...rate, measure: 'new', head: ['new/s', '32 clients'] },
  cached1: { ...rate, measure: 'cached', head: ['cached/s', '1 client'] },
  cached32: { ...rate, measure: 'cached', head: ['cached/s', '32 clients'] },
  p50Byte: { ...latency, head: ['1 B µs', 'p50'] },
  p99Byte: { ...latency, head: ['1 B µs', 'p99'] },
  p50Kib: { ...latency, head: ['1 KiB µs', 'p50'] },
  p99Kib: { ...latency, head: ['1 KiB µs', 'p99'] },
  rss0: { ...memory, head: ['MB at', '0'] },
  rss1000: { ...memory, head: ['MB at', '1,000'] },
  rss10000: { ...memory, measure: 'crowd', head: ['MB at', '10,000'] },
} as const satisfies Record<string, Figure>;

export type FigureName = keyof typeof FIGURES;
export const FIGURE_NAMES = Object.keys(FIGURES) as FigureName[];

/** What one measurement gave. */
export type Values = Partial<Record<FigureName, number>>;
