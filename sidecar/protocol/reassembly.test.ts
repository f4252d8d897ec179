/** wire.md section 6: collecting the segments of super-segments. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { BUDGET_BYTES, HOLD_MS, type Piece, Reassembly } from './reassembly.ts';

const START = 2 ** 32 - 10;
const whole = Uint8Array.from({ length: 100 }, (_, i) => i + 1);

function piece(from: number, to: number, other: Partial<Piece> = {}): Piece {
  const place = { start: START, length: 100, offset: START + from, payload: whole.slice(from, to) };
  return { options: 'tag', header: 'ack window', flags: 0x10, ecn: 0, ...place, ...other };
}

describe('reassembly', () => {
  test('any order, overlapping or twice, gives the bytes once all are there, and not before', () => {
    const cuts = fc.uniqueArray(fc.integer({ min: 1, max: 99 }), { maxLength: 12 });
    fc.assert(
      fc.property(cuts, fc.infiniteStream(fc.nat(1000)), fc.nat(3), (at, draw, overlap) => {
        const edges = [0, ...at.sort((a, b) => a - b), 100];
        const pieces = edges.slice(1).map((to, i) => piece(Math.max(0, edges[i]! - overlap), to));
        const next = () => draw.next().value!;
        const order = [...pieces, ...pieces.slice(1)]
          .map((each) => ({ each, key: next() }))
          .sort((a, b) => a.key - b.key);
        const reassembly = new Reassembly();
        const have = new Set<number>();
        for (const { each } of order) {
          const answer = reassembly.add(each, 0);
          for (const i of each.payload.keys()) have.add(each.offset - START + i);
          if (have.size < 100) assert.equal(answer, 'waits');
          else {
            assert.ok(typeof answer === 'object');
            assert.deepEqual(answer.payload, whole);
            assert.equal(reassembly.bytes, 0);
            return;
          }
        }
        assert.fail('never whole');
      }),
    );
  });

  test('flags and ECN are the OR over the segments', () => {
    const reassembly = new Reassembly();
    reassembly.add(piece(0, 50, { flags: 0x90, ecn: 2 }), 0);
    const answer = reassembly.add(piece(50, 100, { flags: 0x19, ecn: 3 }), 0);
    assert.ok(typeof answer === 'object');
    assert.equal(answer.flags, 0x99);
    assert.equal(answer.ecn, 3);
  });

  test('one that does not agree counts for nothing', () => {
    const reassembly = new Reassembly();
    reassembly.add(piece(0, 50), 0);
    assert.equal(reassembly.add(piece(50, 100, { header: 'another window' }), 0), 'disagrees');
    assert.ok(typeof reassembly.add(piece(50, 100), 0) === 'object');
  });

  test('a retransmission does not wait for the lost one', () => {
    const reassembly = new Reassembly();
    reassembly.add(piece(0, 99), 0);
    assert.equal(reassembly.add(piece(0, 50, { options: 'later' }), 1), 'waits');
    assert.ok(typeof reassembly.add(piece(50, 100, { options: 'later' }), 1) === 'object');
  });

  test('what it refers to may change afterwards', () => {
    const reassembly = new Reassembly();
    const first = piece(0, 50);
    reassembly.add(first, 0);
    first.payload.fill(0);
    const answer = reassembly.add(piece(50, 100), 0);
    assert.ok(typeof answer === 'object');
    assert.deepEqual(answer.payload, whole);
  });

  test('an incomplete one is held for a while after its newest segment, then gone', () => {
    const reassembly = new Reassembly();
    reassembly.add(piece(0, 10), 0);
    reassembly.add(piece(0, 10, { options: 'other' }), 5);
    reassembly.add(piece(10, 20), 15);
    assert.equal(reassembly.expiresAt, 5 + HOLD_MS);
    assert.equal(reassembly.expire(5 + HOLD_MS - 1), 0);
    assert.equal(reassembly.expire(5 + HOLD_MS), 1);
    assert.equal(reassembly.expiresAt, 15 + HOLD_MS);
    assert.equal(reassembly.bytes, 100);
    assert.equal(reassembly.expire(15 + HOLD_MS), 1);
    assert.equal(reassembly.expiresAt, undefined);
    assert.equal(reassembly.bytes, 0);
    assert.equal(reassembly.add(piece(20, 100), 100), 'waits');
  });

  test('holds no more than its budget: the longest untouched goes first', () => {
    const reassembly = new Reassembly();
    const one = (name: number, from: number, to: number) =>
      piece(0, 1, {
        options: `${name}`,
        length: 65_000,
        offset: START + from,
        payload: new Uint8Array(to - from),
      });
    for (let name = 0; name < 1000; name++) {
      reassembly.add(one(name, 0, 1), 0);
      reassembly.add(one(0, name, name + 1), 0);
      assert.ok(reassembly.bytes <= BUDGET_BYTES);
    }
    assert.equal(reassembly.bytes, 4 * 65_000);
    assert.ok(typeof reassembly.add(one(0, 1000, 65_000), 0) === 'object', 'the touched one is there');
    assert.equal(reassembly.add(one(5, 1, 65_000), 0), 'waits', 'an untouched one is not');
  });

  test('a super-segment in ever more crumbs is not followed', () => {
    const reassembly = new Reassembly();
    const crumb = (at: number) =>
      piece(0, 1, { length: 65_000, offset: START + at, payload: new Uint8Array(1) });
    const answers = Array.from({ length: 1000 }, (_, n) => reassembly.add(crumb(2 * n), 0));
    assert.equal(answers[127], 'waits');
    assert.equal(answers[128], 'disagrees');
    assert.equal(reassembly.add(crumb(1), 0), 'waits', 'what closes a gap still counts');
  });
});
