import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  ASKED_BEFORE,
  askedBefore,
  ConnectionState,
  clearedMark,
  DEFAULT_INJECT_MARK,
  MAX_WORKERS,
  markLayout,
  markOf,
  QUEUED_WITHOUT_STATE,
  queuedState,
  stateOf,
  verdictMark,
  workerOf,
} from './marks.ts';

test('state and worker come back from a mark, with any mask', () => {
  for (const mask of [0x7e000000, 0x3f, 0xfc000000, 0x00ffff00, 0x7f0]) {
    const layout = markLayout(mask, mask === 0xfc000000 ? 1 : 0x80000000);
    for (const state of Object.values(ConnectionState)) {
      for (let worker = 0; worker < MAX_WORKERS; worker++) {
        const mark = markOf(layout, state, worker);
        assert.equal((mark & ~mask) >>> 0, 0);
        assert.equal(stateOf(layout, mark), state);
        assert.equal(workerOf(layout, mark), worker);
      }
    }
  }
});

test('the default layout is the one that docs/rules.md shows', () => {
  const layout = markLayout();
  assert.equal(markOf(layout, ConnectionState.plain), 0x02000000);
  assert.equal(markOf(layout, ConnectionState.tcpcrypt, 7), 0x74000000);
  assert.equal(verdictMark(layout, ConnectionState.superSegment, 1, 0x8a000123), 0x97000123);
  assert.equal(clearedMark(layout, 0xffffffff), 0x80ffffff);
});

test('a state that this version does not know is none', () => {
  const layout = markLayout();
  for (const state of [6, 7]) assert.equal(stateOf(layout, state << layout.shift), ConnectionState.none);
});

test('a queued packet without state bits belongs to an encrypted connection', () => {
  const layout = markLayout();
  assert.equal(queuedState(layout, 0x80000001), 'tcpcrypt');
  assert.equal(queuedState(layout, markOf(layout, ConnectionState.plain, 3)), 'plain');
  assert.equal(queuedState(layout, QUEUED_WITHOUT_STATE << layout.shift), 'none');
});

test('a SYN on a setup queue tells whether one was asked about before it', () => {
  const layout = markLayout();
  assert.equal(askedBefore(layout, 0x81ffffff), false);
  assert.equal(askedBefore(layout, 0x8d000000), true);
  assert.equal(askedBefore(layout, ASKED_BEFORE << layout.shift), true);
  assert.equal(askedBefore(layout, QUEUED_WITHOUT_STATE << layout.shift), false);
});

test('settings that cannot work are refused', () => {
  const bad: [number, number][] = [
    [0, DEFAULT_INJECT_MARK],
    [0x3e000000, DEFAULT_INJECT_MARK],
    [0x7a000000, DEFAULT_INJECT_MARK],
    [0x1_00000000, DEFAULT_INJECT_MARK],
    [1.5, DEFAULT_INJECT_MARK],
    [0x7e000000, 0x02000000],
    [0x7e000000, 3],
    [0x7e000000, 0],
  ];
  for (const [mask, inject] of bad) {
    assert.throws(() => markLayout(mask, inject), { code: 'ERR_TCPCRYPT_USAGE' }, `${mask}, ${inject}`);
  }
});
