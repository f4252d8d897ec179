/** Where randomness comes from: always an argument, so that a simulation is repeatable. */
import { randomBytes } from 'node:crypto';
import { plain } from './plain.ts';

/** Gives `length` fresh random bytes in an array of their own, which the callee may overwrite. */
export type Random = (length: number) => Uint8Array;

/** The operating system's randomness: what production passes. */
export const systemRandom: Random = (length) => plain(randomBytes(length));
