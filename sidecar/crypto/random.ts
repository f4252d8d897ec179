/** Where randomness comes from: always an argument, so that a simulation is repeatable. */
import { randomFillSync } from 'node:crypto';

/** Gives `length` fresh random bytes in an array of their own, which the callee may overwrite. */
export type Random = (length: number) => Uint8Array;

/** So much is drawn at once: a call of OpenSSL's costs more than the bytes of a handshake. */
const POOL_BYTES = 1024;
let pool = new Uint8Array(0);

/** The operating system's randomness: what production passes. */
export const systemRandom: Random = (length) => {
  if (length > POOL_BYTES) return randomFillSync(new Uint8Array(length));
  if (length > pool.length) pool = randomFillSync(new Uint8Array(POOL_BYTES));
  const drawn = pool.subarray(0, length);
  pool = pool.subarray(length);
  return drawn;
};
