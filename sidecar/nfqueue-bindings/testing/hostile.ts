/** Arguments of every wrong kind. */

import assert from 'node:assert/strict';
import fc from 'fast-check';

export function detached(): Uint8Array {
  const bytes = new Uint8Array(64);
  structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
  return bytes;
}

/** A view over memory that shrank or grew under it. */
function resized(from: number, to: number, length?: number): Uint8Array {
  const buffer = new ArrayBuffer(from, { maxByteLength: 100_000 });
  const view = new Uint8Array(buffer, 16, length);
  buffer.resize(to);
  return view;
}

export class Sub extends Uint8Array {
  override get length(): number {
    return 1e9;
  }
  override get byteLength(): number {
    return 1e9;
  }
}

export function lying(): Uint8Array {
  const bytes = new Uint8Array(10);
  Object.defineProperty(bytes, 'length', { value: 1e9 });
  Object.defineProperty(bytes, 'byteOffset', { value: -1e9 });
  Object.defineProperty(bytes, 'buffer', { value: new ArrayBuffer(1e6) });
  return bytes;
}

/** Made anew each time, for some are used up. */
const bufferMakers: (() => unknown)[] = [
  () => new Uint8Array(0),
  () => new Uint8Array(1),
  () => Buffer.alloc(20, 0x45),
  () => Buffer.alloc(65531, 0x60),
  () => Buffer.alloc(65532, 0x4f),
  () => Buffer.alloc(100_000, 0xff),
  detached,
  () => resized(64, 16),
  () => resized(64, 20),
  () => resized(64, 20, 48),
  () => resized(64, 0),
  () => resized(64, 100_000),
  () => resized(64, 100_000, 48),
  () => new Sub(8),
  lying,
  () => new Proxy(new Uint8Array(8), {}),
  () => Object.create(Uint8Array.prototype),
  () => new Uint8Array(new SharedArrayBuffer(64)),
  () => new Uint8Array(new SharedArrayBuffer(64, { maxByteLength: 128 })),
  () => new Uint8ClampedArray(8),
  () => new Int8Array(8),
  () => new Uint16Array(8),
  () => new Float64Array(8),
  () => new BigInt64Array(8),
  () => new DataView(new ArrayBuffer(8)),
  () => new ArrayBuffer(8),
  () => ({ length: 8, byteLength: 8, buffer: new ArrayBuffer(8) }),
  () => [1, 2, 3],
];

export const buffers = (): unknown[] => bufferMakers.map((make) => make());

export const numbers: unknown[] = [
  0,
  -0,
  1,
  4,
  6,
  1.5,
  -1,
  64,
  65535,
  65536,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 32,
  2 ** 53,
  2 ** 64,
  1e300,
  Number.NaN,
  Infinity,
  -Infinity,
  5e-324,
];

const things: unknown[] = [
  undefined,
  null,
  true,
  '',
  '1',
  'a\0b',
  7n,
  Symbol('x'),
  {},
  () => {},
  { valueOf: () => 1 },
];

/** Any argument; buffers are made when they are used. */
export const argument = fc.oneof(
  fc.constantFrom(...numbers).map((value) => () => value),
  fc.constantFrom(...things).map((value) => () => value),
  fc.constantFrom(...bufferMakers),
  fc.anything().map((value) => () => value),
);
export const argumentLists = fc.array(argument, { maxLength: 5 });

/** Calls, and takes any error of JavaScript's. */
export function attempt(call: () => unknown): unknown {
  try {
    return call();
  } catch (error) {
    assert.ok(error instanceof Error);
    return undefined;
  }
}

export type AnyFunction = (...args: unknown[]) => unknown;
