import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inspect } from 'node:util';
import fc from 'fast-check';
import { TcpcryptError } from '../errors/catalogue.ts';
import { MAX_KEYS, parseKeys, trustKeyId } from './keys.ts';

const key = (n: number): Buffer => Buffer.alloc(32, n);
const errorOf = (text: string): TcpcryptError => {
  try {
    parseKeys(text);
  } catch (error) {
    assert.ok(error instanceof TcpcryptError);
    assert.equal(error.code, 'ERR_TCPCRYPT_KEYS_INVALID');
    return error;
  }
  throw new assert.AssertionError({ message: 'accepted' });
};

test('base64, base64url and hex; newest first; offered unless it says no', () => {
  const text = `
keys:
  - key: ${key(0xfb).toString('base64')}
  - {key: ${key(0xfe).toString('base64url')}, offered: false}
  - {key: "${key(3).toString('hex')}", offered: true}
`;
  const { keys, warnings } = parseKeys(text);
  assert.deepEqual(warnings, []);
  assert.deepEqual(keys, [
    { key: new Uint8Array(key(0xfb)), offered: true },
    { key: new Uint8Array(key(0xfe)), offered: false },
    { key: new Uint8Array(key(3)), offered: true },
  ]);
  assert.deepEqual(parseKeys(JSON.stringify({ keys: [] })).keys, []);
});

test('what is wrong is said by path', () => {
  const bad = [
    '',
    'x',
    key(1).subarray(1).toString('base64'),
    key(1).toString('base64').slice(0, 42),
    key(0).toString('hex'),
    7,
    null,
  ];
  for (const value of bad) {
    assert.equal(
      errorOf(JSON.stringify({ keys: [{ key: value }] })).message,
      'keys[0].key: must be 32 bytes, not all zero, in quotes, as base64 or hex',
    );
  }
  assert.equal(errorOf('{}').message, 'keys: must be a list');
  assert.equal(errorOf('').message, 'keys: must be a list');
  assert.equal(errorOf('keys: [7]').message, 'keys[0]: must be an object');
  const same = { key: key(1).toString('hex') };
  assert.equal(
    errorOf(JSON.stringify({ keys: [same, { key: key(1).toString('base64'), offered: 'no' }] })).message,
    'keys[1].offered: must be true or false; keys[1].key: is the same as keys[0].key',
  );
  const many = Array.from({ length: MAX_KEYS + 1 }, (_, n) => ({ key: key(n + 1).toString('hex') }));
  assert.equal(errorOf(JSON.stringify({ keys: many })).message, 'keys: has 9 entries; 8 are allowed');
});

test('property: no error and no warning shows a part of a key', () => {
  const secret = 'c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I';
  const breakIt = fc.constantFrom(
    (s: string) => `keys: [{key: ${s}`,
    (s: string) => `keys: [{key: ${s}x}]`,
    (s: string) => `keys: [{${s}: key, key: 7}]`,
    (s: string) => `${s}: 1\n${s}: 2\n`,
    (s: string) => `keys:\n- key: *${s}\n`,
    (s: string) => `keys:\n- key: !${s} ${s}\n- key: "${s}\\q"\n`,
    (s: string) => `%${s}\n--- ${s}: ${s}: ${s}\n`,
    (s: string) => `keys: [${s}, {key: {${s}: 1}}]`,
    (s: string) => `keys: {${s}: 1}`,
    (s: string) => `key: ${s}`,
    (s: string) => `@${s}`,
    (s: string) => `keys: [{key: "\\U${s}"}]`,
    (s: string) => `keys: []\n]${s}\n`,
    (s: string) => s,
    (s: string) => `keys: [{key: ${s}=, offered: ${s}}]`,
  );
  fc.assert(
    fc.property(breakIt, fc.nat(400), fc.constantFrom('', '\n', '}', '\t', '"'), (make, cut, tail) => {
      const text = make(secret).slice(0, cut) + tail;
      let said = '';
      try {
        said = parseKeys(text).warnings.join();
      } catch (error) {
        assert.ok(error instanceof TcpcryptError);
        said = inspect(error, { depth: 9, showHidden: true });
      }
      for (let at = 0; at + 6 <= secret.length; at++)
        assert.ok(!said.includes(secret.slice(at, at + 6)), said);
    }),
    { numRuns: 1_000 },
  );
});

test('unknown fields are counted, not named', () => {
  const { warnings } = parseKeys(
    JSON.stringify({ v: 2, keys: [{ key: key(1).toString('hex'), a: 1, b: 2 }] }),
  );
  assert.deepEqual(warnings, [
    'the key file: 1 unknown field, ignored',
    'keys[0]: 2 unknown fields, ignored',
  ]);
});

test('a key’s id is the first 8 bytes of SHA-256("tcpcrypt key id" | key)', () => {
  // printf 'tcpcrypt key id%032d' 0 | sha256sum
  assert.equal(trustKeyId(Buffer.from('0'.repeat(32))), '044d200370c97b9b');
});
