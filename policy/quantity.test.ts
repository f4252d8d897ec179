import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseBytes, parseDurationMs, parseQuantity } from './quantity.ts';

test('quantities as Kubernetes writes them', () => {
  const same: [string, number][] = [
    ['1', 1],
    ['100m', 0.1],
    ['1.5', 1.5],
    ['.5', 0.5],
    ['1Gi', 2 ** 30],
    ['1024Mi', 2 ** 30],
    ['1e3', 1000],
    ['2E', 2e18],
    ['1E-2', 0.01],
    ['250u', 0.00025],
  ];
  for (const [text, value] of same) assert.equal(parseQuantity(text), value, text);
  assert.equal(parseQuantity(2), 2);
  for (const text of ['', '-1', 'x', '1 Gi', '1mi', '1ee3', undefined]) {
    assert.equal(parseQuantity(text), undefined, String(text));
  }
});

test('bytes as Kubernetes quantities', () => {
  for (const [text, bytes] of [
    ['0', 0],
    ['1', 1],
    ['64Gi', 2 ** 36],
    ['1M', 1e6],
    ['1k', 1_000],
    ['1Ki', 1_024],
    ['1.5Ki', 1_536],
    ['1e6', 1e6],
    ['1E3', 1_000],
    ['2E', 2e18],
    ['.5G', 5e8],
    ['1.1k', 1_100],
    ['2.007k', 2_007],
    ['0.5', 1],
    ['1.', 1],
    [4_096, 4_096],
    [1.2, 2],
  ] as const) {
    assert.equal(parseBytes(text), bytes, String(text));
  }
  for (const text of [
    '',
    ' 1',
    '1 Gi',
    '-1',
    '+1',
    '1K',
    '1gi',
    '1m',
    '1n',
    '1GiB',
    'e3',
    '.',
    '1e',
    NaN,
    Infinity,
    -1,
    null,
    true,
    [],
  ]) {
    assert.equal(parseBytes(text), undefined, String(text));
  }
});

test('what cannot be made a string is neither', () => {
  for (const value of [{ toString: 1 }, Object.create(null)]) {
    for (const parser of [parseQuantity, parseBytes, parseDurationMs]) assert.equal(parser(value), undefined);
  }
});

test('durations as Go writes them', () => {
  for (const [text, ms] of [
    ['0', 0],
    [0, 0],
    ['0s', 0],
    ['1h', 3_600_000],
    ['30m', 1_800_000],
    ['1h30m', 5_400_000],
    ['500ms', 500],
    ['1.5h', 5_400_000],
    ['.5s', 500],
    ['1m1s1ms', 61_001],
    ['1500us', 2],
    ['1500µs', 2],
    ['2000000ns', 2],
  ] as const) {
    assert.equal(parseDurationMs(text), ms, String(text));
  }
  for (const text of ['', '1', '1d', '1 h', '-1h', '+1h', 'h', '1h30', '1hour', '1h 30m', 60, null, ['1h']]) {
    assert.equal(parseDurationMs(text), undefined, String(text));
  }
});

test('property: whole quantities and durations come back exactly', () => {
  fc.assert(
    fc.property(fc.nat(4_000_000), fc.constantFrom('', 'Ki', 'Mi', 'k', 'M'), (n, suffix) => {
      const scale = { '': 1, Ki: 2 ** 10, Mi: 2 ** 20, k: 1e3, M: 1e6 }[suffix] as number;
      assert.equal(parseBytes(`${n}${suffix}`), n * scale);
    }),
  );
  fc.assert(
    fc.property(fc.nat(1_000), fc.nat(59), fc.nat(59), fc.nat(999), (h, m, s, ms) => {
      assert.equal(parseDurationMs(`${h}h${m}m${s}s${ms}ms`), ((h * 60 + m) * 60 + s) * 1_000 + ms);
    }),
  );
});
