import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { guarded, hostileBytes } from './hostile.testing.ts';
import {
  encodeSpecifiers,
  encodeSuboptions,
  find,
  HELLO,
  INIT1,
  NEXTK1,
  PKCONF,
  parseSpecifiers,
  parseSuboptions,
  REKEY,
  REKEYSTREAM,
  type Suboption,
  SYNC_OK,
  SYNC_REQ,
  suboption,
  UNKNOWN,
  uint32,
  uint32Bytes,
} from './suboptions.ts';
import { hex } from './testing.ts';

const list = (...bodies: string[]): Suboption[] => {
  const found = parseSuboptions(bodies.map(hex));
  assert.ok(found !== 'malformed');
  return found.list;
};

const FIXED: readonly (readonly [number, number])[] = [
  [SYNC_REQ, 4],
  [SYNC_OK, 4],
  [REKEY, 1],
  [REKEYSTREAM, 5],
  [NEXTK1, 9],
];

const anySuboption: fc.Arbitrary<Suboption> = fc.oneof(
  fc.nat(0x3f).map((opcode) => suboption(opcode)),
  fc
    .tuple(fc.integer({ min: 0x40, max: 0x7f }), fc.uint8Array({ maxLength: 20 }))
    .map(([o, data]) => suboption(o, data)),
  fc
    .constantFrom(...FIXED)
    .chain(([o, n]) => fc.uint8Array({ minLength: n, maxLength: n }).map((data) => suboption(o, data))),
);

describe('suboptions (wire.md, section 1)', () => {
  test('bytes', () => {
    assert.deepEqual(encodeSuboptions([suboption(HELLO)]), hex('01'));
    assert.deepEqual(encodeSuboptions([suboption(INIT1)]), hex('07'));
    assert.deepEqual(
      encodeSuboptions([suboption(PKCONF, encodeSpecifiers([0x210, 0x202, 0x200]))]),
      hex('410b 000210 000202 000200'),
    );
    assert.deepEqual(encodeSuboptions([suboption(UNKNOWN, hex('c1'))]), hex('4303c1'));
    assert.deepEqual(encodeSuboptions([suboption(SYNC_REQ, uint32Bytes(0xfedcba98))]), hex('80fedcba98'));
    assert.deepEqual(encodeSuboptions([suboption(REKEY, hex('07'))]), hex('8207'));
    assert.equal(encodeSuboptions([suboption(NEXTK1, new Uint8Array(9))]).length, 10);
  });

  test('a list comes back, over however many options', () => {
    fc.assert(
      fc.property(fc.array(fc.array(anySuboption, { maxLength: 4 }), { maxLength: 3 }), (bodies) => {
        const found = parseSuboptions(bodies.map(encodeSuboptions));
        assert.deepEqual(found, { list: bodies.flat(), unknownMandatory: [] });
      }),
    );
  });

  test('an empty option is an empty list', () => {
    assert.deepEqual(list(''), []);
  });

  test('unknown 0x80-0xbf, and IV: the rest of this option only is skipped', () => {
    for (const opcode of ['85', '86', 'bf']) {
      assert.deepEqual(list(`01 ${opcode} 02`, '03'), [suboption(1), suboption(3)]);
    }
  });

  test('0xc0-0xff: named, and the rest of this option is skipped', () => {
    assert.deepEqual(parseSuboptions([hex('01 c0 02'), hex('03 ff')]), {
      list: [suboption(1), suboption(3)],
      unknownMandatory: [0xc0, 0xff],
    });
  });

  test('unknown 0x00-0x7f are in the list', () => {
    assert.deepEqual(list('3f 7f 03 aa 01'), [suboption(0x3f), suboption(0x7f, hex('aa')), suboption(1)]);
  });

  test('malformed: what cannot be read to its end', () => {
    const bad = [
      '41',
      '4100',
      '4101',
      '410500',
      '80000000',
      '81',
      '82',
      '8300000000',
      '84 0000000000000000',
      '01 41',
    ];
    for (const text of bad) {
      assert.equal(parseSuboptions([hex(text)]), 'malformed', text);
      assert.equal(parseSuboptions([hex('01'), hex(text)]), 'malformed', text);
    }
  });

  test('encoding refuses data that its opcode cannot carry', () => {
    assert.throws(() => encodeSuboptions([suboption(HELLO, hex('00'))]), RangeError);
    assert.throws(() => encodeSuboptions([suboption(REKEY, hex('0000'))]), RangeError);
    assert.throws(() => encodeSuboptions([suboption(PKCONF, new Uint8Array(254))]), RangeError);
    assert.equal(encodeSuboptions([suboption(PKCONF, new Uint8Array(253))])[1], 255);
  });

  test('find gives the first', () => {
    const found = list('4103aa 4103bb');
    assert.deepEqual(find(found, PKCONF)?.data, hex('aa'));
    assert.equal(find(found, HELLO), undefined);
  });

  test('any bytes: a list or malformed, nothing read outside', () => {
    const examples = [
      '410b000210000202000200',
      '80fedcba988207',
      '84000102030405060708',
      '01c00243 03c1',
    ].map(hex);
    fc.assert(
      fc.property(fc.array(hostileBytes(examples), { maxLength: 3 }), (bodies) => {
        const found = parseSuboptions(bodies.map(guarded));
        if (found === 'malformed') return;
        for (const { opcode, data } of found.list) {
          if (opcode < 0x40) assert.equal(data.length, 0);
          if (opcode >= 0x80) assert.equal(data.length, new Map(FIXED).get(opcode));
        }
        assert.ok(found.unknownMandatory.every((opcode) => opcode >= 0xc0));
      }),
      { numRuns: 3000 },
    );
  });
});

describe('algorithm specifiers', () => {
  test('come back', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(0x7fffff), { minLength: 1, maxLength: 10 }), (ids) => {
        assert.deepEqual(parseSpecifiers(encodeSpecifiers(ids)), ids);
      }),
    );
  });

  test('from a set top bit on, all is skipped', () => {
    assert.deepEqual(parseSpecifiers(hex('000200 800000 000201')), [0x200]);
    assert.deepEqual(parseSpecifiers(hex('000200 ff')), [0x200]);
    assert.deepEqual(parseSpecifiers(hex('80')), []);
  });

  test('malformed: empty or cut', () => {
    for (const text of ['', '00', '0002', '000200 00', '000200 0001']) {
      assert.equal(parseSpecifiers(hex(text)), 'malformed', text);
    }
  });

  test('any bytes', () => {
    fc.assert(
      fc.property(hostileBytes([hex('000210000202000200')]), (bytes) => void parseSpecifiers(guarded(bytes))),
    );
  });
});

test('uint32 comes back', () => {
  fc.assert(fc.property(fc.nat(0xffffffff), (n) => assert.equal(uint32(uint32Bytes(n)), n)));
});
