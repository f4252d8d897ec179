import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { x25519 as nobleX25519 } from '@noble/curves/ed25519.js';
import { p256 as nobleP256, p521 as nobleP521 } from '@noble/curves/nist.js';
import fc from 'fast-check';
import { type Agreement, cavsP256, cavsP521 } from './cavs.testing.ts';
import { type Group, p256, p521, x25519 } from './dh.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const bytes = (text: string) => new Uint8Array(Buffer.from(text, 'hex'));
/** Gives a copy: who asks for random bytes may overwrite them. */
const always = (value: string) => () => bytes(value);

function agree(group: Group, scalar: string, share: string): string {
  const secret = group.generate(always(scalar)).agree(bytes(share));
  return secret === 'invalid' ? secret : hex(secret);
}

describe('RFC 7748, section 5.2: X25519', () => {
  test('test vector 1', () => {
    assert.equal(
      agree(
        x25519,
        'a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4',
        'e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c',
      ),
      'c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552',
    );
  });

  test('test vector 2', () => {
    assert.equal(
      agree(
        x25519,
        '4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d',
        'e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493',
      ),
      '95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957',
    );
  });

  test('1 and 1,000 iterations', () => {
    let k = `09${'00'.repeat(31)}`;
    let u = k;
    for (let i = 1; i <= 1000; i++) {
      [k, u] = [agree(x25519, k, u), k];
      if (i === 1) assert.equal(k, '422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079');
    }
    assert.equal(k, '684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51');
  });
});

describe('RFC 7748, section 6.1: Diffie-Hellman', () => {
  const alice = '77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a';
  const bob = '5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb';
  const secret = '4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742';

  test('public keys and the shared secret', () => {
    const a = x25519.generate(always(alice));
    const b = x25519.generate(always(bob));
    assert.equal(hex(a.share), '8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a');
    assert.equal(hex(b.share), 'de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f');
    assert.equal(agree(x25519, alice, hex(b.share)), secret);
    assert.equal(agree(x25519, bob, hex(a.share)), secret);
  });

  test('an all-zero output is an error: every point of small order', () => {
    const smallOrder = [
      '00'.repeat(32),
      `01${'00'.repeat(31)}`,
      'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800',
      '5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157',
      `ec${'ff'.repeat(30)}7f`,
      `ed${'ff'.repeat(30)}7f`,
      `ee${'ff'.repeat(30)}7f`,
    ];
    for (const share of smallOrder) {
      assert.equal(agree(x25519, alice, share), 'invalid', share);
      assert.equal(
        agree(x25519, alice, share.slice(0, 62) + (Number.parseInt(share.slice(62), 16) | 0x80).toString(16)),
        'invalid',
      );
    }
  });
});

for (const [name, group, vectors] of [
  ['P-256', p256, cavsP256],
  ['P-521', p521, cavsP521],
] as const) {
  describe(`CAVS KASValidityTest ECCStaticUnified NOKC ZZOnly, ${name}`, () => {
    for (const { count, d, q, z } of vectors.valid as readonly Agreement[]) {
      test(`count ${count}`, () => assert.equal(agree(group, d, q), z));
    }
    for (const { count, d, q } of vectors.invalid as readonly Agreement[]) {
      test(`count ${count}: not on the curve`, () => assert.equal(agree(group, d, q), 'invalid'));
    }
  });
}

const nobles = {
  X25519: {
    group: x25519,
    scalarBytes: 32,
    share: (scalar: Uint8Array) => nobleX25519.getPublicKey(scalar),
    secret: (scalar: Uint8Array, share: Uint8Array) => nobleX25519.getSharedSecret(scalar, share),
    runs: 100,
  },
  'P-256': {
    group: p256,
    scalarBytes: 32,
    share: (scalar: Uint8Array) => nobleP256.getPublicKey(scalar, false),
    secret: (scalar: Uint8Array, share: Uint8Array) =>
      nobleP256.getSharedSecret(scalar, share, false).slice(1, 33),
    runs: 100,
  },
  'P-521': {
    group: p521,
    scalarBytes: 66,
    share: (scalar: Uint8Array) => nobleP521.getPublicKey(scalar, false),
    secret: (scalar: Uint8Array, share: Uint8Array) =>
      nobleP521.getSharedSecret(scalar, share, false).slice(1, 67),
    runs: 30,
  },
};

for (const [name, { group, scalarBytes, share, secret, runs }] of Object.entries(nobles)) {
  describe(`${name}: OpenSSL and noble agree`, () => {
    // Below the order of either curve; a first byte of zero often, so that leading zeros are kept.
    const scalar = fc
      .uint8Array({ minLength: scalarBytes, maxLength: scalarBytes })
      .map((value) =>
        Uint8Array.from(value, (byte, i) => (i === 0 ? byte % (scalarBytes === 66 ? 2 : 255) : byte)),
      )
      .filter((value) => value.subarray(1, -1).some((byte) => byte !== 0));

    test('shares and secrets', () => {
      fc.assert(
        fc.property(scalar, scalar, (a, b) => {
          const pair = group.generate(() => a.slice());
          assert.equal(hex(pair.share), hex(share(a)));
          assert.equal(pair.share.length, group.shareBytes);
          const agreed = pair.agree(share(b));
          assert.notEqual(agreed, 'invalid');
          assert.equal(hex(agreed as Uint8Array), hex(secret(a, share(b))));
        }),
        { numRuns: runs },
      );
    });

    test('any bytes at all give a secret or `invalid`, never an exception', () => {
      const pair = group.generate((length) => randomBytes(length).fill(1, 0, 1));
      const anything = fc.oneof(
        fc.uint8Array({ maxLength: 2 * group.shareBytes }),
        fc.uint8Array({ minLength: group.shareBytes, maxLength: group.shareBytes }),
      );
      fc.assert(fc.property(anything, (peer) => void pair.agree(peer)));
      for (const length of [0, 1, group.shareBytes - 1, group.shareBytes + 1]) {
        assert.equal(
          pair.agree(
            pair.share.subarray(0, length).length === length
              ? pair.share.subarray(0, length)
              : new Uint8Array(length),
          ),
          'invalid',
        );
      }
    });

    test('the scalar that random gave is zeroed, and nothing works after destroy', () => {
      const given: Uint8Array[] = [];
      const pair = group.generate((length) => {
        const value = new Uint8Array(length).fill(1);
        given.push(value);
        return value;
      });
      assert.equal(given.length, 1);
      assert.ok(given[0].every((byte) => byte === 0));
      pair.destroy();
      assert.throws(() => pair.agree(pair.share), /destroyed/);
    });
  });
}

describe('P-256 and P-521 points', () => {
  test('only the uncompressed form is taken', () => {
    for (const [group, noble] of [
      [p256, nobleP256],
      [p521, nobleP521],
    ] as const) {
      const pair = group.generate((length) => new Uint8Array(length).fill(1));
      const compressed = noble.getPublicKey(new Uint8Array(noble.lengths.secretKey ?? 0).fill(1), true);
      assert.equal(pair.agree(compressed), 'invalid');
      assert.equal(pair.agree(Uint8Array.of(0)), 'invalid', 'the point at infinity');
      for (const form of [0x00, 0x02, 0x03, 0x05, 0x06, 0x07]) {
        const other = Uint8Array.from(pair.share);
        other[0] = form;
        assert.equal(pair.agree(other), 'invalid', `form ${form}`);
      }
    }
  });

  test('a coordinate of p or more is refused', () => {
    const { p } = nobleP256.Point.CURVE();
    const y = Buffer.from(nobleP256.Point.fromAffine({ x: 0n, y: sqrtOfB() }).toBytes(false).subarray(33));
    const pair = p256.generate((length) => new Uint8Array(length).fill(1));
    const point = (x: bigint) =>
      Buffer.concat([Uint8Array.of(4), bytes(x.toString(16).padStart(64, '0')), y]);
    assert.notEqual(pair.agree(point(0n)), 'invalid', 'x = 0 is on the curve');
    assert.equal(pair.agree(point(p)), 'invalid', 'the same point, not reduced');
  });

  test('of the first byte of a P-521 scalar one bit counts', () => {
    const low = `01${'11'.repeat(65)}`;
    const pair = p521.generate(always(`ff${low.slice(2)}`));
    assert.equal(hex(pair.share), hex(nobleP521.getPublicKey(bytes(low), false)));
  });

  test('scalars out of range are drawn again, and a broken source of randomness is told', () => {
    const order = nobleP256.Point.CURVE().n.toString(16);
    const draws = [order, 'ff'.repeat(32), '00'.repeat(32), '11'.repeat(32)];
    const pair = p256.generate(() => bytes(draws.shift() ?? ''));
    assert.equal(hex(pair.share), hex(nobleP256.getPublicKey(bytes('11'.repeat(32)), false)));
    for (const group of [p256, p521]) {
      assert.throws(() => group.generate((length) => new Uint8Array(length)), /randomness is broken/);
    }
  });
});

/** y of the point of P-256 with x = 0. */
function sqrtOfB(): bigint {
  const { Fp } = nobleP256.Point;
  return Fp.sqrt(nobleP256.Point.CURVE().b);
}
