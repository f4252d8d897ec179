import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readRendered, writeRendered } from './rendered.ts';

test('what is written is read', () => {
  const rendered = { namespace: 'shop', policies: [{ podSelector: {}, policy: { mode: 'Strict' } }] };
  const { name, labels, data } = writeRendered(rendered);
  assert.equal(name, 'tcpcrypt-policy-shop');
  assert.deepEqual(readRendered(labels, data), rendered);
});

test('what the operator never writes is refused', () => {
  const label = { 'tcpcrypt.io/rendered-for': 'shop' };
  for (const text of ['', '{', '{}', '[1]', '[{"podSelector":[],"policy":{}}]', '[{"podSelector":{}}]']) {
    assert.equal(readRendered(label, { 'policies.json': text }), undefined, text);
  }
  assert.equal(readRendered({}, { 'policies.json': '[]' }), undefined);
  assert.equal(readRendered(label, {}), undefined);
  const many = JSON.stringify(new Array(1001).fill({ podSelector: {}, policy: {} }));
  assert.equal(readRendered(label, { 'policies.json': many }), undefined);
});
