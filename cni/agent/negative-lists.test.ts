import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NegativeLists } from './negative-lists.ts';

const MINUTE = 60_000;
const entry = (address: string, forSeconds: unknown = 60) => ({ address, forSeconds });

test('what a pod told goes to the others of its namespace, as long as it says so', () => {
  const lists = new NegativeLists();
  lists.tell('shop', 'a', [entry('10.0.0.1'), entry('fd00::1', 30)], 0);
  assert.deepEqual(lists.for('shop', 'b', 0), [entry('10.0.0.1'), entry('fd00::1', 30)]);
  assert.deepEqual(lists.for('shop', 'a', 0), [], 'not back to itself');
  assert.deepEqual(lists.for('other', 'b', 0), [], 'not to another namespace');
  lists.tell('shop', 'b', [entry('10.0.0.1', 90)], 0);
  assert.deepEqual(lists.for('shop', 'c', 10_000), [entry('10.0.0.1', 80), entry('fd00::1', 20)]);
  // It had a success there.
  lists.tell('shop', 'a', [entry('fd00::1', 30)], 0);
  lists.tell('shop', 'b', [], 0);
  assert.deepEqual(lists.for('shop', 'c', 0), [entry('fd00::1', 30)]);
});

test('a pod that has ended is believed for ten minutes at most', () => {
  const lists = new NegativeLists();
  lists.tell('shop', 'a', [entry('10.0.0.1', 86_400)], 0);
  assert.deepEqual(lists.for('shop', 'b', 0), [entry('10.0.0.1', 600)]);
  assert.deepEqual(lists.for('shop', 'b', 10 * MINUTE), []);
  assert.equal(lists.size, 1);
  lists.expire(10 * MINUTE);
  assert.equal(lists.size, 0);
});

test('nonsense is left out, and what there is of it is bounded', () => {
  const lists = new NegativeLists();
  for (const wrong of [undefined, null, 'x', {}, [null], [1], [entry('x')], [{ address: '10.0.0.1' }]]) {
    lists.tell('shop', 'a', wrong, 0);
  }
  lists.tell('shop', 'a', [entry('1.1.1.1', -1), entry('1.1.1.1', NaN), entry('1.1.1.1', '9')], 0);
  lists.tell('shop', 'a', [entry(`fe80::1%${'x'.repeat(99)}`)], 0);
  assert.equal(lists.size, 0);
  for (let pod = 0; pod < 10; pod++) {
    const many = Array.from({ length: 5000 }, (_, i) => entry(`10.${pod}.${i >> 8}.${i & 255}`));
    lists.tell('shop', `pod${pod}`, many, 0);
    assert.equal(lists.size, Math.min(256 * (pod + 1), 1024));
  }
  // The latest stay.
  assert.ok(lists.for('shop', 'b', 0).some(({ address }) => address.startsWith('10.9.')));
  assert.ok(!lists.for('shop', 'b', 0).some(({ address }) => address.startsWith('10.5.')));
});
