import assert from 'node:assert/strict';
import { test } from 'node:test';
import { selects } from './selector.ts';

test('a label selector', () => {
  const labels = { app: 'cart', tier: 'web' };
  const one = (key: string, operator: string, values?: string[]) =>
    selects({ matchExpressions: [{ key, operator, ...(values && { values }) }] }, labels);
  assert.equal(selects({}, labels), true);
  assert.equal(selects({ matchLabels: { app: 'cart' } }, labels), true);
  assert.equal(selects({ matchLabels: { app: 'cart', tier: 'db' } }, labels), false);
  assert.equal(selects({ matchLabels: { toString: 'x' } }, labels), false);
  assert.equal(one('app', 'In', ['cart', 'shop']), true);
  assert.equal(one('app', 'In', ['shop']), false);
  assert.equal(one('none', 'In', ['shop']), false);
  assert.equal(one('app', 'NotIn', ['shop']), true);
  assert.equal(one('app', 'NotIn', ['cart']), false);
  assert.equal(one('none', 'NotIn', ['cart']), true);
  assert.equal(one('app', 'Exists'), true);
  assert.equal(one('none', 'Exists'), false);
  assert.equal(one('app', 'DoesNotExist'), false);
  assert.equal(one('none', 'DoesNotExist'), true);
  assert.equal(one('app', 'Matches', ['cart']), false);
  const both = {
    matchLabels: { app: 'cart' },
    matchExpressions: [{ key: 'tier', operator: 'DoesNotExist' }],
  };
  assert.equal(selects(both, labels), false);
});
