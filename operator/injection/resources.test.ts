import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseQuantity } from './resources.ts';

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
