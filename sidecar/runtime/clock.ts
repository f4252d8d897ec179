/**
 * The runtime's clock: milliseconds of CLOCK_MONOTONIC, the same in every thread and every process until the
 * machine restarts, so that times in checkpoints keep their meaning across a restart of the process.
 */

export function monotonicMs(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1000 + nanoseconds / 1e6;
}

/** A time on this clock as a date, for people. */
export function dateOf(monotonic: number): Date {
  return new Date(Date.now() - (monotonicMs() - monotonic));
}
