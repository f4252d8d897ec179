import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ExpiringMap } from './expiring-map.ts';
import { ExchangeHints, KnownPeers, NegativeList, SharedList } from './negative-list.ts';

const MINUTE = 60_000;
const DAY = 86_400_000;

test('wire.md 4: a listing lasts 10 minutes, doubling to a day', () => {
  const list = new NegativeList();
  let now = 0;
  for (const minutes of [10, 20, 40, 80, 160, 320, 640, 1_280, 1_440, 1_440]) {
    list.add('p', now);
    assert.ok(list.has('p', now + minutes * MINUTE - 1));
    assert.ok(!list.has('p', now + minutes * MINUTE));
    now += minutes * MINUTE;
  }
});

test('failures of one burst count once', () => {
  const list = new NegativeList();
  for (let i = 0; i < 50; i++) list.add('p', i);
  assert.deepEqual(list.entries(50), [{ peer: 'p', untilMs: 10 * MINUTE }]);
});

test('a success clears a listing, what it would double, and a counted SYN timeout', () => {
  const list = new NegativeList();
  list.add('p', 0);
  list.succeed('p');
  assert.ok(!list.has('p', 1));
  list.add('p', 2);
  assert.ok(!list.has('p', 2 + 10 * MINUTE));
  assert.equal(list.synTimeout('p', 0), false);
  list.succeed('p');
  assert.equal(list.synTimeout('p', 1), false);
});

test('the listing is forgotten a day after its end, and the next is short again', () => {
  const list = new NegativeList();
  list.add('p', 0);
  list.add('p', 10 * MINUTE + DAY);
  assert.ok(!list.has('p', 20 * MINUTE + DAY));
});

test('the same destination has a SYN timeout twice: listed', () => {
  const list = new NegativeList();
  assert.equal(list.synTimeout('p', 0), false);
  assert.equal(list.synTimeout('q', 0), false);
  assert.ok(!list.has('p', 1));
  assert.equal(list.synTimeout('p', 1), true);
  assert.ok(list.has('p', 2));
  assert.ok(!list.has('q', 2));
});

test('entries are what is listed now, the oldest first', () => {
  const list = new NegativeList();
  list.add('p', 0);
  list.add('q', MINUTE);
  assert.deepEqual(list.entries(2 * MINUTE), [
    { peer: 'p', untilMs: 10 * MINUTE },
    { peer: 'q', untilMs: 11 * MINUTE },
  ]);
  assert.deepEqual(list.entries(10 * MINUTE), [{ peer: 'q', untilMs: 11 * MINUTE }]);
});

test('what others found is replaced as a whole, ends after ten minutes, and is bounded', () => {
  const shared = new SharedList();
  shared.replace(
    [
      { peer: 'p', untilMs: 6 },
      { peer: 'old', untilMs: 5 },
      { peer: 'far', untilMs: 1e15 },
      { peer: 'bad', untilMs: NaN },
    ],
    5,
  );
  assert.equal(shared.size, 2);
  assert.ok(shared.has('p', 5) && !shared.has('p', 6));
  assert.ok(shared.has('far', 4 + 10 * MINUTE) && !shared.has('far', 5 + 10 * MINUTE));
  shared.replace(
    Array.from({ length: 2000 }, (_, i) => ({ peer: `p${i}`, untilMs: 10 })),
    5,
  );
  assert.equal(shared.size, 1024);
  assert.ok(shared.has('p1023', 6) && !shared.has('p1024', 6) && !shared.has('far', 6));
});

test('known peers and exchange hints end after an hour', () => {
  const known = new KnownPeers();
  known.note('p', 0);
  assert.ok(known.has('p', 60 * MINUTE - 1));
  assert.ok(!known.has('p', 60 * MINUTE));
  known.note('q', 0);
  known.note('q', 30 * MINUTE);
  assert.ok(known.has('q', 60 * MINUTE));
  const hints = new ExchangeHints();
  hints.avoid('p', 0);
  assert.ok(hints.avoids('p', 60 * MINUTE - 1));
  assert.ok(!hints.avoids('p', 60 * MINUTE));
  assert.ok(!hints.avoids('q', 0));
});

test('all of them are bounded; the oldest goes', () => {
  const list = new NegativeList({ maxEntries: 10 });
  const known = new KnownPeers({ maxEntries: 10 });
  const hints = new ExchangeHints({ maxEntries: 10 });
  for (let i = 0; i < 100; i++) {
    list.add(`p${i}`, 0);
    known.note(`p${i}`, 0);
    hints.avoid(`p${i}`, 0);
  }
  assert.deepEqual([list.size, known.size, hints.size], [10, 10, 10]);
  assert.ok(list.has('p90', 1) && !list.has('p89', 1));
  assert.ok(known.has('p90', 1) && !known.has('p89', 1));
  assert.ok(hints.avoids('p90', 1) && !hints.avoids('p89', 1));
});

test('property: the expiring map is a map of what was set last, has not expired and is among the newest', () => {
  const operation = fc.record({ key: fc.constantFrom(...'abcdefgh'), ttl: fc.nat(20), remove: fc.boolean() });
  fc.assert(
    fc.property(
      fc.array(operation, { maxLength: 60 }),
      fc.integer({ min: 1, max: 6 }),
      (operations, maxEntries) => {
        const map = new ExpiringMap<number>(maxEntries);
        let model: { key: string; value: number; until: number }[] = [];
        operations.forEach(({ key, ttl, remove }, now) => {
          model = model.filter((entry) => entry.key !== key);
          if (remove) {
            map.delete(key);
          } else {
            map.set(key, now, now + ttl);
            model.push({ key, value: now, until: now + ttl });
            model = model.slice(-maxEntries);
          }
          assert.ok(map.size <= maxEntries);
          const live = model.filter((entry) => now < entry.until);
          assert.deepEqual(
            [...map.entries(now)],
            live.map((entry) => [entry.key, entry.value]),
          );
          for (const entry of live) assert.equal(map.get(entry.key, now), entry.value);
        });
        for (const key of 'abcdefgh') assert.equal(map.get(key, 1_000), undefined);
      },
    ),
  );
});
