import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { median, randomFrom, shuffled, spread } from './statistics.ts';

test('median: the middle value, whatever the order', () => {
  assert.equal(median([7]), 7);
  assert.equal(median([30, 4, 100]), 30);
  assert.equal(median([10, 9, 2, 1]), 5.5);
  assert.throws(() => median([]), RangeError);
  const values = [3, 1, 2];
  median(values);
  assert.deepEqual(values, [3, 1, 2], 'the argument is left alone');
});

test('median: as many values are below as above', () => {
  fc.assert(
    fc.property(fc.array(fc.integer(), { minLength: 1 }), (values) => {
      const middle = median(values);
      const below = values.filter((value) => value < middle).length;
      const above = values.filter((value) => value > middle).length;
      assert.ok(below <= values.length / 2 && above <= values.length / 2);
    }),
  );
});

test('spread: the range in units of the median', () => {
  assert.equal(spread([5]), 0);
  assert.equal(spread([8, 10, 13]), 0.5);
});

test('shuffled: the same items, by the seed alone', () => {
  const items = Array.from({ length: 30 }, (_, i) => i);
  const one = shuffled(items, randomFrom(1));
  assert.deepEqual(shuffled(items, randomFrom(1)), one);
  assert.notDeepEqual(shuffled(items, randomFrom(2)), one);
  assert.notDeepEqual(one, items);
  assert.deepEqual(
    [...one].sort((a, b) => a - b),
    items,
  );
});

test('shuffled: each item comes to each place about as often', () => {
  const random = randomFrom(42);
  const firsts = [0, 0, 0, 0];
  for (let i = 0; i < 8000; i++) firsts[shuffled([0, 1, 2, 3], random)[0]]++;
  for (const count of firsts) assert.ok(count > 1800 && count < 2200, `${firsts}`);
});
