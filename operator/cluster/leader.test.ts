import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mayTake } from './leader.ts';

const me = { identity: 'a', durationMs: 15_000 };
const seen = (holder: string, sinceMs: number) => ({ holder, resourceVersion: '1', sinceMs });

test('a lease is taken when nobody holds it, we do, or it has not changed for its duration', () => {
  assert.ok(mayTake(seen('', 0), me, 0));
  assert.ok(mayTake(seen('a', 0), me, 1));
  assert.ok(!mayTake(seen('b', 1000), me, 15_999));
  assert.ok(mayTake(seen('b', 1000), me, 16_000));
});
