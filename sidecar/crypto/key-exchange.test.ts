import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { DEFAULT_KEY_EXCHANGES, KEY_EXCHANGES } from '../../policy/algorithms.ts';
import { type KeyExchange, keyExchanges, type Random, systemRandom } from './key-exchange.ts';
import { derandomizedKeyExchanges } from './mlkem.testing.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

/** Repeatable randomness. */
function seeded(seed: number): Random {
  let draws = 0;
  return (length) => {
    const shake = createHash('shake256', { outputLength: length });
    return new Uint8Array(shake.update(`${seed}/${draws++}`).digest());
  };
}

function handshake(exchange: KeyExchange, c: Random, s: Random) {
  const offer = exchange.generate(c);
  const answer = exchange.respond(offer.publicKey, s);
  assert.ok(answer !== 'invalid');
  const pms = offer.complete(answer.keyMaterial);
  assert.ok(pms !== 'invalid');
  assert.equal(hex(pms), hex(answer.pms));
  return { offer, ...answer };
}

describe('The key exchanges, wire.md section 2', () => {
  test('ids, names and lengths', () => {
    const table = [...keyExchanges.values()].map((e) => [e.id, e.name, e.publicKeyBytes, e.keyMaterialBytes]);
    assert.deepEqual(table, [
      [0x210, 'X25519MLKEM768', 1184 + 32, 1 + 32 + 1088 + 32],
      [0x202, 'X25519', 32, 1 + 32 + 32],
      [0x200, 'P-256', 65, 1 + 32 + 65],
      [0x201, 'P-521', 133, 1 + 32 + 133],
      [0x100, 'RSA-OAEP', 384, 384],
    ]);
    for (const [id, exchange] of keyExchanges) assert.equal(exchange.id, id);
  });

  test('policy calls them by the same names', () => {
    assert.deepEqual(new Map([...keyExchanges].map(([id, { name }]) => [name, id])), KEY_EXCHANGES);
  });
});

const pmsBytes: Record<string, number> = { X25519MLKEM768: 64, X25519: 32, 'P-256': 32, 'P-521': 66 };

for (const id of DEFAULT_KEY_EXCHANGES) {
  const exchange = derandomizedKeyExchanges.get(id)!;

  describe(exchange.name, () => {
    test('both ends agree, whatever the randomness', () => {
      for (const [each, random] of [
        [keyExchanges.get(id)!, systemRandom],
        [exchange, seeded(1)],
        [exchange, (length: number) => randomBytes(length)],
      ] as const) {
        const { offer, keyMaterial, pms } = handshake(each, random, random);
        assert.equal(offer.publicKey.length, exchange.publicKeyBytes);
        assert.equal(keyMaterial.length, exchange.keyMaterialBytes);
        assert.equal(pms.length, pmsBytes[exchange.name]);
        for (const bytes of [offer.publicKey, keyMaterial, pms]) assert.ok(!Buffer.isBuffer(bytes));
      }
    });

    test('is a function of the randomness given', () => {
      const first = handshake(exchange, seeded(1), seeded(2));
      const again = handshake(exchange, seeded(1), seeded(2));
      const other = handshake(exchange, seeded(1), seeded(3));
      assert.equal(hex(again.offer.publicKey), hex(first.offer.publicKey));
      assert.equal(hex(again.keyMaterial), hex(first.keyMaterial));
      assert.equal(hex(again.pms), hex(first.pms));
      assert.equal(hex(other.offer.publicKey), hex(first.offer.publicKey));
      assert.notEqual(hex(other.pms), hex(first.pms));
    });

    test('key material begins with len(N_S), N_S, the first that S draws', () => {
      const { keyMaterial } = handshake(exchange, seeded(1), seeded(2));
      assert.equal(keyMaterial[0], 32);
      assert.equal(hex(keyMaterial.subarray(1, 33)), hex(seeded(2)(32)));
    });

    test('N_S stays when what S draws later is zeroed', () => {
      const given: Uint8Array[] = [];
      const keeping: Random = (length) => {
        const value = randomBytes(length);
        given.push(value);
        return value;
      };
      const { keyMaterial } = handshake(exchange, seeded(1), keeping);
      assert.equal(hex(keyMaterial.subarray(1, 33)), hex(given[0]));
      for (const secret of given.slice(1)) assert.ok(secret.every((byte) => byte === 0));
    });

    test('another length, or another len(N_S), is invalid', () => {
      const { offer, keyMaterial } = handshake(exchange, seeded(1), seeded(2));
      for (const length of [0, 1, exchange.keyMaterialBytes - 1]) {
        assert.equal(offer.complete(keyMaterial.subarray(0, length)), 'invalid');
      }
      assert.equal(offer.complete(Buffer.concat([keyMaterial, Uint8Array.of(0)])), 'invalid');
      for (const nonceBytes of [0, 31, 33, 255]) {
        const other = Uint8Array.from(keyMaterial);
        other[0] = nonceBytes;
        assert.equal(offer.complete(other), 'invalid');
      }
      for (const length of [0, 1, exchange.publicKeyBytes - 1]) {
        assert.equal(exchange.respond(offer.publicKey.subarray(0, length), systemRandom), 'invalid');
      }
      assert.equal(
        exchange.respond(Buffer.concat([offer.publicKey, Uint8Array.of(0)]), systemRandom),
        'invalid',
      );
    });

    test('hostile bytes never throw', () => {
      const offer = exchange.generate(systemRandom);
      const exactly = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
      fc.assert(
        fc.property(exactly(exchange.publicKeyBytes), fc.boolean(), (publicKey, plausible) => {
          if (plausible && publicKey.length % 2 === 1) publicKey[0] = 4;
          exchange.respond(publicKey, systemRandom);
        }),
        { numRuns: 40 },
      );
      fc.assert(
        fc.property(exactly(exchange.keyMaterialBytes), (keyMaterial) => {
          keyMaterial[0] = 32;
          offer.complete(keyMaterial);
        }),
        { numRuns: 40 },
      );
    });

    test('destroy ends the offer', () => {
      const { offer, keyMaterial } = handshake(exchange, seeded(1), seeded(2));
      offer.destroy();
      offer.destroy();
      assert.throws(() => offer.complete(keyMaterial), /destroyed/);
    });
  });
}

describe('X25519MLKEM768', () => {
  const hybrid = keyExchanges.get(0x210)!;

  test('the ML-KEM part comes first in PK_C, key material and PMS, and both parts count', () => {
    const x25519 = keyExchanges.get(0x202)!;
    const { offer, keyMaterial, pms } = handshake(hybrid, seeded(1), seeded(2));
    const drawn = seeded(1);
    drawn(64);
    const alone = x25519.generate(drawn);
    assert.equal(hex(offer.publicKey.subarray(1184)), hex(alone.publicKey));
    const share = Buffer.concat([keyMaterial.subarray(0, 33), keyMaterial.subarray(33 + 1088)]);
    const secret = alone.complete(share);
    assert.ok(secret !== 'invalid');
    assert.equal(hex(pms.subarray(32)), hex(secret));

    const wrong = Uint8Array.from(keyMaterial);
    wrong[33] ^= 1;
    const rejected = offer.complete(wrong);
    assert.ok(rejected !== 'invalid');
    assert.notEqual(hex(rejected.subarray(0, 32)), hex(pms.subarray(0, 32)));
    assert.equal(hex(rejected.subarray(32)), hex(pms.subarray(32)));
  });

  test('one bad part makes the whole invalid', () => {
    const { offer, keyMaterial } = handshake(hybrid, seeded(1), seeded(2));
    const zeroShare = Uint8Array.from(keyMaterial).fill(0, 33 + 1088);
    assert.equal(offer.complete(zeroShare), 'invalid');
    assert.equal(hybrid.respond(Uint8Array.from(offer.publicKey).fill(0, 1184), systemRandom), 'invalid');
    assert.equal(hybrid.respond(Uint8Array.from(offer.publicKey).fill(0xff, 0, 3), systemRandom), 'invalid');
  });
});
