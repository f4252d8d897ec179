/** wire.md section 6: a sender that sees retransmissions shrinks its super-segments, and grows them again. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SuperSegmentSize } from './super-segment-size.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

test('whole until a retransmission, and again once enough got through without another', () => {
  const size = new SuperSegmentSize();
  assert.ok(size.whole);
  size.retransmitted(1000);
  assert.ok(!size.whole);
  size.acknowledged(1000 + 200 * KIB);
  size.retransmitted(1000 + 220 * KIB);
  size.acknowledged(1000 + 470 * KIB);
  assert.ok(!size.whole, 'the second one counts from its own place');
  size.acknowledged(1000 + 476 * KIB);
  assert.ok(size.whole);
});

test('a path that loses on takes ever longer; one that was clean for long begins anew', () => {
  const size = new SuperSegmentSize();
  let at = 0;
  const untilWhole = (): number => {
    size.retransmitted(at);
    const from = at;
    while (!size.whole) {
      at += 64 * KIB;
      size.acknowledged(at);
    }
    return at - from;
  };
  assert.deepEqual([untilWhole(), untilWhole(), untilWhole()], [256 * KIB, 512 * KIB, MIB]);
  for (let n = 0; n < 10; n++) untilWhole();
  assert.equal(untilWhole(), 64 * MIB, 'never longer');
  at += 4 * MIB;
  assert.equal(untilWhole(), 256 * KIB);
});
