/**
 * The bytes that test programs send: readable text, so that a search of a capture finds any of it in clear,
 * in a period that is prime, so that bytes delivered at the wrong place are noticed.
 */
import { Buffer } from 'node:buffer';

const PERIOD = 65_521;
const LINE = 'plaintext-needle ';

/** Occurs at least every 40 bytes of the pattern; what a capture must not show. */
export const NEEDLE = 'plaintext-needle';

const period = Buffer.alloc(PERIOD);
for (let at = 0, line = 0; at < PERIOD; line++) at += period.write(`${LINE}${line * 7919}\n`, at);
const twice = Buffer.concat([period, period]);

/** At most one period of the pattern from a position in the stream on. */
export function patternAt(position: number, bytes: number): Buffer {
  const start = position % PERIOD;
  return twice.subarray(start, start + Math.min(bytes, PERIOD));
}

/** The first position at which `received`, which begins at `position`, differs from the pattern; -1 if none. */
export function firstDifference(received: Buffer, position: number): number {
  for (let at = 0; at < received.length; ) {
    const expected = patternAt(position + at, received.length - at);
    if (received.compare(expected, 0, expected.length, at, at + expected.length) !== 0) {
      for (let i = 0; i < expected.length; i++)
        if (received[at + i] !== expected[i]) return position + at + i;
    }
    at += expected.length;
  }
  return -1;
}
