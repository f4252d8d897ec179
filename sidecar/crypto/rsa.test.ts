import assert from 'node:assert/strict';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { oaep, power, toBytes, toNumber } from './oaep.testing.ts';
import { RsaStock, rsaKeys, rsaOaep } from './rsa.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const fromBase64 = (text: string | undefined) => Buffer.from(text ?? '', 'base64url');

const exchange = rsaOaep(rsaKeys);
const offer = exchange.generate(randomBytes);

describe('RSA-OAEP, RFC 8017 section 7.1', () => {
  test('S encrypts R_S: a decryption by hand gives it', () => {
    for (const bits of [2048, 3072]) {
      const jwk = generateKeyPairSync('rsa', { modulusLength: bits, publicExponent: 3 }).privateKey.export({
        format: 'jwk',
      });
      const n = fromBase64(jwk.n);
      const secret = randomBytes(48);
      const answer = exchange.respond(n, () => Buffer.from(secret));
      assert.ok(answer !== 'invalid');
      assert.equal(answer.keyMaterial.length, bits / 8);
      const encoded = power(toNumber(answer.keyMaterial), toNumber(fromBase64(jwk.d)), toNumber(n));
      assert.equal(hex(oaep.decode(toBytes(encoded, bits / 8))), hex(secret));
      assert.equal(hex(answer.pms), hex(secret));
    }
  });

  test('C decrypts what was encrypted by hand with exponent 3', () => {
    const { publicKey } = offer;
    assert.equal(publicKey.length, exchange.publicKeyBytes);
    const secret = randomBytes(48);
    const encrypted = (message: Uint8Array) =>
      toBytes(
        power(toNumber(oaep.encode(message, randomBytes(32), publicKey.length)), 3n, toNumber(publicKey)),
        publicKey.length,
      );
    const pms = offer.complete(encrypted(secret));
    assert.ok(pms !== 'invalid');
    assert.equal(hex(pms), hex(secret));
    for (const length of [0, 47, 49])
      assert.equal(offer.complete(encrypted(new Uint8Array(length))), 'invalid');
  });

  test('what cannot be a ciphertext is invalid', () => {
    const bytes = exchange.keyMaterialBytes;
    for (const length of [0, 1, bytes - 1, bytes + 1]) {
      assert.equal(offer.complete(new Uint8Array(length)), 'invalid');
    }
    assert.equal(offer.complete(new Uint8Array(bytes)), 'invalid');
    assert.equal(offer.complete(new Uint8Array(bytes).fill(0xff)), 'invalid', 'more than the modulus');
    assert.equal(offer.complete(randomBytes(bytes).fill(1, 0, 1)), 'invalid');
  });

  test('a modulus has 2048 to 4096 bits, no leading zero, and is odd', () => {
    const modulus = (bits: number) => {
      const value = new Uint8Array(Math.ceil(bits / 8)).fill(0xff);
      value[0] = 0xff >> ((8 - (bits % 8)) % 8);
      return value;
    };
    const random = (length: number) => new Uint8Array(length);
    for (const bits of [1, 1024, 2047, 4097, 8192]) {
      assert.equal(exchange.respond(modulus(bits), random), 'invalid', `${bits} bits`);
    }
    for (const bits of [2048, 2049, 3071, 4096]) {
      assert.notEqual(exchange.respond(modulus(bits), random), 'invalid', `${bits} bits`);
    }
    assert.equal(exchange.respond(new Uint8Array(0), random), 'invalid');
    assert.equal(exchange.respond(new Uint8Array(384), random), 'invalid');
    assert.equal(exchange.respond(Buffer.concat([Uint8Array.of(0), offer.publicKey]), random), 'invalid');
    const even = Uint8Array.from(offer.publicKey);
    even[even.length - 1] &= 0xfe;
    assert.equal(exchange.respond(even, random), 'invalid');
  });
});

test('destroy ends the offer', () => {
  const keyMaterial = new Uint8Array(exchange.keyMaterialBytes);
  offer.destroy();
  assert.throws(() => offer.complete(keyMaterial), /destroyed/);
});

test('a stock has a key when one has been made, which `prepare` begins, and not again before the next', async () => {
  const stocked = rsaOaep(new RsaStock());
  assert.equal(stocked.prepare?.(), false);
  while (!stocked.prepare?.()) await sleep(10);
  const taken = stocked.generate(randomBytes);
  assert.equal(stocked.prepare?.(), false);
  const answer = exchange.respond(taken.publicKey, randomBytes);
  assert.ok(answer !== 'invalid');
  const pms = taken.complete(answer.keyMaterial);
  assert.ok(pms !== 'invalid');
  assert.equal(hex(pms), hex(answer.pms));
});
