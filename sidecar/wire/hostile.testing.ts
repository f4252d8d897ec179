// Hostile input for tests of parsers: bytes at random and good messages with damage, in an array that throws when it
// is read outside its bounds (plain typed arrays answer `undefined` there, which would hide the mistake).

import fc from 'fast-check';

/** Random bytes, or one of the examples cut and with some bytes replaced. */
export function hostileBytes(examples: readonly Uint8Array[]): fc.Arbitrary<Uint8Array> {
  const random = fc.uint8Array({ maxLength: 120 });
  if (examples.length === 0) return random;
  const replaced = fc.array(fc.tuple(fc.nat(90), fc.oneof(fc.nat(255), fc.constantFrom(0, 1, 2, 255))), {
    maxLength: 6,
  });
  const damaged = fc
    .tuple(fc.constantFrom(...examples), replaced, fc.option(fc.nat(120)))
    .map(([example, changes, cut]) => {
      const bytes = example.slice(0, cut ?? example.length);
      for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
      return bytes;
    });
  return fc.oneof({ weight: 1, arbitrary: random }, { weight: 4, arbitrary: damaged });
}

/** The same bytes, read only within bounds: an index outside, here or in a subarray, throws RangeError. */
export function guarded(bytes: Uint8Array): Uint8Array {
  return new Proxy(bytes, {
    get(target, property) {
      if (property === 'subarray') {
        return (start?: number, end?: number) => {
          if ((end ?? 0) > target.length || (start ?? 0) > target.length) {
            throw new RangeError(`subarray ${start}..${end} of ${target.length} bytes`);
          }
          return guarded(target.subarray(start, end));
        };
      }
      if (typeof property === 'string' && /^-?\d+$|^NaN$/.test(property) && !(property in target)) {
        throw new RangeError(`index ${property} of ${target.length} bytes`);
      }
      const value = Reflect.get(target, property, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}
