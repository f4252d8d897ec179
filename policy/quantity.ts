/**
 * Quantities as Kubernetes writes them (`64Gi`, `1.5G`, `1e6`) and durations as Go does (`1h30m`, `500ms`).
 * Each parser returns undefined for what is not one.
 */

const scales: Readonly<Record<string, number>> = {
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  '': 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
  Ei: 2 ** 60,
};

/** A quantity that is not negative, to compare with others. */
export function parseQuantity(value: unknown): number | undefined {
  if (typeof value === 'number') return Number.isFinite(value) && value >= 0 ? value : undefined;
  if (typeof value !== 'string') return undefined;
  const match = /^(\d+(?:\.\d*)?|\.\d+)(?:[eE]([+-]?\d{1,2})|([KMGTPE]i|[numkMGTPE])?)$/.exec(value);
  if (match === null) return undefined;
  const [, number, exponent, suffix] = match;
  const scale = exponent === undefined ? scales[suffix ?? ''] : 10 ** Number(exponent);
  // 15 digits: 2.007k is 2007 bytes, not 2008, though 2.007 * 1000 is a little more in binary.
  return Number((Number(number) * scale).toPrecision(15));
}

/** Bytes, rounded up to a whole one as Kubernetes does. None of the scales below 1: `1m` is meant to be `1M`. */
export function parseBytes(value: unknown): number | undefined {
  if (typeof value === 'string' && /[num-]/.test(value)) return undefined;
  const quantity = parseQuantity(value);
  return quantity === undefined ? undefined : Math.ceil(quantity);
}

const unitMs: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  μs: 1e-3,
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
};

/** Milliseconds, rounded to the nearest. `0` needs no unit; a sign is not accepted. */
export function parseDurationMs(value: unknown): number | undefined {
  if (value === 0 || value === '0') return 0;
  if (typeof value !== 'string' || value === '') return undefined;
  const part = /(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)/y;
  let totalMs = 0;
  while (part.lastIndex < value.length) {
    const match = part.exec(value);
    if (match === null) return undefined;
    totalMs += Number(match[1]) * unitMs[match[2]];
  }
  return Math.round(totalMs);
}
