/**
 * Numbers that the packet threads count and the main thread exports. They lie in shared memory, so counting
 * is one addition and a scrape never stops a packet thread. A series (a metric with one set of labels)
 * takes its slots when it is first used, and is then announced to the reader by message.
 *
 * Each packet thread has memory of its own and alone writes there; any thread may read. Values are doubles, eight
 * bytes aligned, which both supported architectures load and store whole.
 */

export type Labels = Readonly<Record<string, string>>;

export interface Series {
  readonly metric: string;
  readonly labels: Labels;
  /** The first of its slots. A histogram has one for each bucket, then sum and count. */
  readonly slot: number;
}

const SLOTS = 16_384;
/** Where series begin that find no room any more: counted, and never announced. The closed lists fill a tenth. */
const SPILL = SLOTS - 64;

function createCounterMemory(): SharedArrayBuffer {
  return new SharedArrayBuffer(SLOTS * Float64Array.BYTES_PER_ELEMENT);
}

/** The writing end. */
export class Counters {
  readonly #values: Float64Array;
  readonly #announce: (series: Series) => void;
  readonly #slots = new Map<string, number>();
  #used = 0;

  constructor(memory: SharedArrayBuffer, announce: (series: Series) => void) {
    this.#values = new Float64Array(memory);
    this.#announce = announce;
  }

  /** The first slot of a series. Who counts often looks it up once. Labels go in the order of the declaration. */
  slot(metric: string, labels: Labels = {}, width = 1): number {
    let key = metric;
    for (const name in labels) key += `\n${labels[name]}`;
    const known = this.#slots.get(key);
    if (known !== undefined) return known;
    const full = this.#used + width > SPILL;
    const slot = full ? SPILL : this.#used;
    this.#slots.set(key, slot);
    if (!full) {
      this.#used += width;
      this.#announce({ metric, labels, slot });
    }
    return slot;
  }

  add(slot: number, amount = 1): void {
    this.#values[slot]! += amount;
  }

  set(slot: number, value: number): void {
    this.#values[slot] = value;
  }

  /** A histogram with these upper bounds, ascending; the last bucket, without a bound, is added. */
  histogram(metric: string, bounds: readonly number[], labels: Labels = {}): SharedHistogram {
    const slot = this.slot(metric, labels, bounds.length + 3);
    const observe = (value: number, times = 1): void => {
      let bucket = 0;
      while (bucket < bounds.length && value > bounds[bucket]!) bucket++;
      this.add(slot + bucket, times);
      this.add(slot + bounds.length + 1, value * times);
      this.add(slot + bounds.length + 2, times);
    };
    return { observe };
  }
}

export interface SharedHistogram {
  observe(value: number, times?: number): void;
}

/** Memory for one writer, and whom its series are announced to. */
export interface CounterSource {
  readonly memory: SharedArrayBuffer;
  announced(series: Series): void;
}

/** The reading end: what several writers count is one sum. */
export class CounterReader {
  /** By metric: each set of labels, and where its values are. */
  readonly #series = new Map<string, Map<string, { labels: Labels; places: Float64Array[] }>>();

  /** For one more writer. */
  source(): CounterSource {
    const memory = createCounterMemory();
    const values = new Float64Array(memory);
    return {
      memory,
      announced: ({ metric, labels, slot }) => this.#add(metric, labels, values.subarray(slot)),
    };
  }

  /** Each series of a metric with its first `width` values. */
  read(metric: string, width = 1): { labels: Labels; values: Float64Array }[] {
    return [...(this.#series.get(metric)?.values() ?? [])].map(({ labels, places }) => {
      const values = new Float64Array(width);
      for (const place of places) for (let i = 0; i < width; i++) values[i]! += place[i]!;
      return { labels, values };
    });
  }

  #add(metric: string, labels: Labels, place: Float64Array): void {
    const series = this.#series.get(metric) ?? new Map();
    this.#series.set(metric, series);
    const key = JSON.stringify(labels);
    const known = series.get(key);
    if (known === undefined) series.set(key, { labels, places: [place] });
    else known.places.push(place);
  }
}
