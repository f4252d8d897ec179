import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { guarded, hostileBytes } from './hostile.testing.ts';
import {
  beginsLikeInit,
  decodeInit1,
  decodeInit2,
  decodeKeyMaterial,
  encodeInit1,
  encodeInit2,
  encodeKeyMaterial,
  type Init1,
  type Init2,
  MAX_INIT_BYTES,
  tlvValueOffset,
} from './init.ts';
import { hex } from './testing.ts';

const NONCE = Uint8Array.from({ length: 32 }, (_, i) => i);
const NONCE_TEXT = '000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f';

// Written by hand from wire.md, section 3: two suites, exchange 0x000202 with a "key" of 4 bytes, two TLVs.
const INIT1: Init1 = {
  suites: [0x600, 0x100],
  nonce: NONCE,
  keyExchange: 0x202,
  publicKey: hex('deadbeef'),
  tlvs: [
    { type: 1, value: hex('0102030405060708') },
    { type: 255, value: hex('') },
  ],
};
const INIT1_BYTES = hex(`
  0000004a 2911 0002 0020 0004 00000600 00000100 ${NONCE_TEXT} 00 000202 deadbeef
  01 0008 0102030405060708 ff 0000`);

const INIT2: Init2 = {
  suite: 0x601,
  keyMaterial: encodeKeyMaterial(NONCE, hex('cafe')),
  tlvs: [{ type: 1, value: hex('aabb') }],
};
const INIT2_BYTES = hex(`00000034 8310 0023 00000601 20 ${NONCE_TEXT} cafe 01 0002 aabb`);

const tlvs = fc.array(
  fc.record({ type: fc.nat(255), value: fc.uint8Array({ maxLength: 40 }) }, { noNullPrototype: true }),
  { maxLength: 3 },
);
const init1 = fc.record(
  {
    suites: fc.array(fc.nat(0xffffffff), { minLength: 1, maxLength: 9 }),
    nonce: fc.uint8Array({ minLength: 32, maxLength: 32 }),
    keyExchange: fc.nat(0xffffff),
    publicKey: fc.uint8Array({ maxLength: 1300 }),
    tlvs,
  },
  { noNullPrototype: true },
);
const init2 = fc.record(
  { suite: fc.nat(0xffffffff), keyMaterial: fc.uint8Array({ maxLength: 1300 }), tlvs },
  { noNullPrototype: true },
);

function changed(bytes: Uint8Array, at: number, value: number): Uint8Array {
  const copy = bytes.slice();
  copy[at] = value;
  return copy;
}

describe('INIT1', () => {
  test('bytes', () => {
    assert.deepEqual(encodeInit1(INIT1), INIT1_BYTES);
    assert.deepEqual(decodeInit1(INIT1_BYTES), INIT1);
  });

  test('comes back', () => {
    fc.assert(fc.property(init1, (init) => assert.deepEqual(decodeInit1(encodeInit1(init)), init)));
  });

  test('is exactly as long as it says', () => {
    for (let length = 0; length < INIT1_BYTES.length; length++) {
      assert.equal(decodeInit1(INIT1_BYTES.subarray(0, length)), 'malformed');
    }
    assert.equal(decodeInit1(Uint8Array.of(...INIT1_BYTES, 0)), 'malformed');
    assert.equal(decodeInit1(changed(INIT1_BYTES, 3, 0x4b)), 'malformed');
  });

  test('malformed in one field', () => {
    const fields = { magic: 5, suiteCount: 7, nonceLength: 9, keyLength: 11, zero: 52, tlvLength: 62 };
    for (const [name, at] of Object.entries(fields)) {
      assert.equal(decodeInit1(changed(INIT1_BYTES, at, 0xff)), 'malformed', name);
    }
    assert.equal(decodeInit1(changed(INIT1_BYTES, 7, 0)), 'malformed');
    assert.equal(decodeInit1(changed(INIT1_BYTES, 9, 0x1f)), 'malformed');
    assert.equal(decodeInit1(INIT2_BYTES), 'malformed');
  });

  test('encoding refuses what cannot be', () => {
    assert.throws(() => encodeInit1({ ...INIT1, suites: [] }), RangeError);
    assert.throws(() => encodeInit1({ ...INIT1, nonce: new Uint8Array(31) }), RangeError);
    assert.throws(() => encodeInit1({ ...INIT1, publicKey: new Uint8Array(MAX_INIT_BYTES) }), RangeError);
  });
});

describe('INIT2', () => {
  test('bytes', () => {
    assert.deepEqual(encodeInit2(INIT2), INIT2_BYTES);
    assert.deepEqual(decodeInit2(INIT2_BYTES), INIT2);
  });

  test('comes back', () => {
    fc.assert(fc.property(init2, (init) => assert.deepEqual(decodeInit2(encodeInit2(init)), init)));
  });

  test('malformed', () => {
    for (let length = 0; length < INIT2_BYTES.length; length++) {
      assert.equal(decodeInit2(INIT2_BYTES.subarray(0, length)), 'malformed');
    }
    for (const at of [3, 5, 7, 49])
      assert.equal(decodeInit2(changed(INIT2_BYTES, at, 0xff)), 'malformed', `${at}`);
    assert.equal(decodeInit2(INIT1_BYTES), 'malformed');
  });
});

describe('both', () => {
  test('any bytes: a message or malformed, nothing read outside', () => {
    fc.assert(
      fc.property(hostileBytes([INIT1_BYTES, INIT2_BYTES]), (bytes) => {
        for (const which of [1, 2] as const) {
          const decoded = which === 1 ? decodeInit1(guarded(bytes)) : decodeInit2(guarded(bytes));
          if (decoded === 'malformed') continue;
          assert.ok(beginsLikeInit(bytes, which));
          assert.deepEqual('nonce' in decoded ? encodeInit1(decoded) : encodeInit2(decoded), bytes);
        }
        beginsLikeInit(guarded(bytes), 1);
        decodeKeyMaterial(guarded(bytes));
      }),
      { numRuns: 3000 },
    );
  });

  test('tlvValueOffset', () => {
    assert.equal(tlvValueOffset(INIT2_BYTES, 2, 1), INIT2_BYTES.length - 2);
    assert.equal(tlvValueOffset(INIT1_BYTES, 1, 1), INIT1_BYTES.length - 11);
    assert.equal(tlvValueOffset(INIT1_BYTES, 1, 255), INIT1_BYTES.length);
    assert.equal(tlvValueOffset(INIT1_BYTES, 1, 2), undefined);
    assert.equal(tlvValueOffset(INIT1_BYTES, 2, 1), undefined);
    const inside = Uint8Array.of(9, 9, ...INIT2_BYTES).subarray(2);
    assert.equal(tlvValueOffset(inside, 2, 1), INIT2_BYTES.length - 2);
  });

  test('key material', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 32, maxLength: 32 }),
        fc.uint8Array({ maxLength: 133 }),
        (nonce, rest) => {
          assert.deepEqual(decodeKeyMaterial(encodeKeyMaterial(nonce, rest)), { nonce, rest });
        },
      ),
    );
    assert.equal(decodeKeyMaterial(INIT2.keyMaterial.subarray(0, 32)), 'malformed');
    assert.equal(decodeKeyMaterial(changed(INIT2.keyMaterial, 0, 31)), 'malformed');
    assert.equal(decodeKeyMaterial(hex('')), 'malformed');
    assert.throws(() => encodeKeyMaterial(new Uint8Array(33), hex('')), RangeError);
  });
});

describe('beginsLikeInit', () => {
  test('whole or cut, from 6 bytes on', () => {
    for (const [bytes, which] of [
      [INIT1_BYTES, 1],
      [INIT2_BYTES, 2],
    ] as const) {
      for (let length = 0; length <= bytes.length; length++) {
        assert.equal(beginsLikeInit(bytes.subarray(0, length), which), length >= 6);
      }
      assert.ok(!beginsLikeInit(bytes, which === 1 ? 2 : 1));
    }
  });

  test('a length that no INIT has', () => {
    assert.ok(beginsLikeInit(hex('00001000 2911'), 1));
    assert.ok(!beginsLikeInit(hex('00001001 2911'), 1));
    assert.ok(beginsLikeInit(hex('00000034 2911'), 1));
    assert.ok(!beginsLikeInit(hex('00000033 2911'), 1));
    assert.ok(!beginsLikeInit(hex('0000000b 8310'), 2));
    assert.ok(!beginsLikeInit(hex('80000034 8310'), 2));
  });
});
