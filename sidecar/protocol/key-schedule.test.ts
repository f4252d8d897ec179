import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { expand, extract } from '@noble/hashes/hkdf.js';
import { sha256 } from '@noble/hashes/sha2.js';
import fc from 'fast-check';
import {
  confirmation,
  directionKeys,
  erase,
  masterKey,
  nextMasterKey,
  nextSecret,
  type SessionInputs,
  sessionId,
  sessionSecret,
  trustKeyId,
} from './key-schedule.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const fill = (length: number, start: number) => Uint8Array.from({ length }, (_, i) => (start + i * 7) & 0xff);
const cprf = (key: Uint8Array, tag: number) => expand(sha256, new Uint8Array(key), Uint8Array.of(tag), 32);
const concat = (...parts: readonly Uint8Array[]) => new Uint8Array(Buffer.concat(parts));

const inputs: SessionInputs = {
  synBody: fill(1, 2),
  synAckBody: fill(14, 3),
  init1: fill(90, 4),
  init2: fill(140, 5),
  pms: fill(32, 6),
  nonceC: fill(32, 7),
};

describe('The session secret, wire.md section 3', () => {
  test('is HKDF-Extract over all that was said, in order', () => {
    const bytes = fc.uint8Array({ maxLength: 60 });
    const psk = fc.option(fc.uint8Array({ minLength: 32, maxLength: 32 }), { nil: undefined });
    fc.assert(
      fc.property(bytes, bytes, bytes, bytes, bytes, bytes, psk, (nonceC, a, b, init1, init2, pms, key) => {
        const parts = [Uint8Array.of(a.length), a, Uint8Array.of(b.length), b, init1, init2, pms];
        const secret = sessionSecret({
          synBody: a,
          synAckBody: b,
          init1,
          init2,
          pms,
          nonceC,
          ...(key === undefined ? {} : { psk: key }),
        });
        const ikm = concat(...parts, key ?? new Uint8Array(0));
        assert.equal(hex(secret), hex(extract(sha256, ikm, nonceC)));
      }),
    );
  });

  test('every bit of every input counts', () => {
    const psk = fill(32, 8);
    const secrets = new Set([hex(sessionSecret({ ...inputs, psk }))]);
    let changes = 1;
    for (const name of ['synBody', 'synAckBody', 'init1', 'init2', 'pms', 'psk', 'nonceC'] as const) {
      const input = { ...inputs, psk }[name];
      for (let bit = 0; bit < input.length * 8; bit++) {
        const changed = input.slice();
        changed[bit >> 3] ^= 1 << (bit & 7);
        secrets.add(hex(sessionSecret({ ...inputs, psk, [name]: changed })));
        changes++;
      }
    }
    assert.equal(secrets.size, changes);
  });

  test('a byte cannot move between the bodies of SYN and SYN-ACK', () => {
    const both = concat(inputs.synBody, inputs.synAckBody);
    const secrets = new Set<string>();
    for (let at = 0; at <= both.length; at++) {
      const cut = { synBody: both.subarray(0, at), synAckBody: both.subarray(at) };
      secrets.add(hex(sessionSecret({ ...inputs, ...cut })));
    }
    assert.equal(secrets.size, both.length + 1);
  });

  test('the confirm field, and it alone, counts as zeros; INIT2 is left as it was', () => {
    const confirmOffset = 100;
    const zeros = inputs.init2.slice().fill(0, confirmOffset, confirmOffset + 16);
    const before = inputs.init2.slice();
    const secret = hex(sessionSecret({ ...inputs, confirmOffset }));
    assert.equal(secret, hex(sessionSecret({ ...inputs, init2: zeros })));
    assert.deepEqual(inputs.init2, before);
    for (const at of [confirmOffset - 1, confirmOffset, confirmOffset + 15, confirmOffset + 16]) {
      const init2 = inputs.init2.slice();
      init2[at] ^= 1;
      const inside = at >= confirmOffset && at < confirmOffset + 16;
      assert.equal(hex(sessionSecret({ ...inputs, init2, confirmOffset })) === secret, inside, `byte ${at}`);
    }
  });
});

describe('What follows from it, wire.md sections 3 and 7', () => {
  const ss = sessionSecret(inputs);

  test('ss[i], SID[i], mk[j], k_cs, k_sc, confirm by their CPRF tags', () => {
    assert.equal(hex(nextSecret(ss)), hex(cprf(ss, 1)));
    assert.equal(hex(sessionId(ss)), hex(cprf(ss, 2)));
    const mk = masterKey(ss);
    assert.equal(hex(mk), hex(cprf(ss, 3)));
    assert.equal(hex(nextMasterKey(mk)), hex(cprf(mk, 3)));
    const { cs, sc } = directionKeys(mk);
    assert.equal(hex(cs), hex(cprf(mk, 4)));
    assert.equal(hex(sc), hex(cprf(mk, 5)));
    assert.equal(hex(confirmation(ss)), hex(cprf(ss, 9).subarray(0, 16)));
  });

  test('a resumed connection binds its own SYN exchange', () => {
    const next = nextSecret(ss);
    const resumed = {
      synBody: concat(Uint8Array.of(0x84), sessionId(next).subarray(0, 9)),
      synAckBody: Uint8Array.of(5),
    };
    const { synBody: a, synAckBody: b } = resumed;
    const bound = extract(
      sha256,
      concat(Uint8Array.of(a.length), a, Uint8Array.of(b.length), b),
      new Uint8Array(next),
    );
    assert.equal(hex(masterKey(next, resumed)), hex(cprf(bound, 3)));
    assert.notEqual(hex(masterKey(next, resumed)), hex(masterKey(next)));
    const appSupport = { ...resumed, synAckBody: Uint8Array.of(6) };
    assert.notEqual(hex(masterKey(next, appSupport)), hex(masterKey(next, resumed)));
  });

  test('a key id is 8 bytes of SHA-256 over a label and the key', () => {
    const key = fill(32, 9);
    const expected = sha256(concat(Buffer.from('tcpcrypt key id', 'latin1'), key)).subarray(0, 8);
    assert.equal(hex(trustKeyId(key)), hex(expected));
  });

  test('no function changes what it is given; erase zeroes all of it', () => {
    const secret = ss.slice();
    nextSecret(secret);
    sessionId(secret);
    masterKey(secret, inputs);
    directionKeys(secret);
    confirmation(secret);
    assert.deepEqual(secret, new Uint8Array(ss));
    const other = fill(16, 1);
    erase(secret, other);
    assert.ok([...secret, ...other].every((byte) => byte === 0));
  });
});
