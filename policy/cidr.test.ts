import assert from 'node:assert/strict';
import { BlockList } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import { contains, formatCidr, parseAddress, parseCidr, within } from './cidr.ts';

const hex = (bytes: Uint8Array | undefined): string | undefined =>
  bytes && Buffer.from(bytes).toString('hex');
const inBlock = (cidr: string, address: string): boolean =>
  contains(parseCidr(cidr)!, parseAddress(address)!);

test('addresses', () => {
  for (const [text, bytes] of [
    ['10.1.2.3', '0a010203'],
    ['::', '0'.repeat(32)],
    ['::1', `${'0'.repeat(31)}1`],
    ['fe80::1%eth0', 'fe800000000000000000000000000001'],
    ['2001:db8:1:2:3:4:5:6', '20010db8000100020003000400050006'],
    ['2001:db8::', '20010db8000000000000000000000000'],
    ['2001:DB8::a:0.0.1.2', '20010db8000000000000000a00000102'],
    ['::ffff:10.1.2.3', '0a010203'],
    ['::ffff:a01:203', '0a010203'],
    ['0:0:0:0:0:ffff:a01:203', '0a010203'],
    ['::fffe:10.1.2.3', '00000000000000000000fffe0a010203'],
  ]) {
    assert.equal(hex(parseAddress(text)), bytes, text);
  }
  for (const text of [
    '',
    '10.1.2',
    '10.1.2.256',
    '010.1.2.3',
    '[::1]',
    '::1::',
    'host',
    '10.1.2.3:80',
    '1.2.3.4/32',
  ]) {
    assert.equal(parseAddress(text), undefined, text);
  }
});

test('blocks', () => {
  for (const [text, canonical] of [
    ['10.1.2.3/8', '10.0.0.0/8'],
    ['10.1.2.3/32', '10.1.2.3/32'],
    ['0.0.0.0/0', '0.0.0.0/0'],
    ['192.168.255.255/17', '192.168.128.0/17'],
    ['fd12::1/8', 'fd00:0:0:0:0:0:0:0/8'],
    ['::ffff:10.0.0.0/104', '10.0.0.0/8'],
    ['::/0', '0:0:0:0:0:0:0:0/0'],
  ]) {
    assert.equal(formatCidr(parseCidr(text)!), canonical, text);
  }
  for (const text of [
    '10.0.0.0',
    '10.0.0.0/33',
    '10.0.0.0/',
    '10.0.0.0/08',
    '10.0.0.0/8/8',
    '::/129',
    'fe80::%eth0/64',
    '/8',
  ]) {
    assert.equal(parseCidr(text), undefined, text);
  }
});

test('an IPv4-mapped address is its IPv4 address, in no IPv6 block', () => {
  assert.ok(inBlock('10.0.0.0/8', '::ffff:10.1.2.3'));
  assert.ok(!inBlock('::/0', '::ffff:10.1.2.3'));
  assert.ok(!inBlock('::/0', '10.1.2.3'));
  assert.ok(!inBlock('0.0.0.0/0', '::1'));
});

test('within', () => {
  const is = (inner: string, outer: string): boolean => within(parseCidr(inner)!, parseCidr(outer)!);
  assert.ok(is('10.9.0.0/16', '10.0.0.0/8') && is('10.0.0.0/8', '10.0.0.0/8') && is('fd00::/16', 'fd00::/8'));
  assert.ok(
    !is('10.0.0.0/7', '10.0.0.0/8') && !is('11.0.0.0/16', '10.0.0.0/8') && !is('fd00::/16', '0.0.0.0/0'),
  );
});

test('property: agrees with node:net’s BlockList', () => {
  /** Addresses near each other, so that half of the pairs match. */
  const near = (bits: number): fc.Arbitrary<bigint> =>
    fc.tuple(fc.bigInt({ min: 0n, max: (1n << BigInt(bits)) - 1n }), fc.nat(bits)).map(([x, keep]) => {
      const base = 0x20010db8123456789abcdef012345678n >> BigInt(128 - bits);
      const low = (1n << BigInt(bits - keep)) - 1n;
      return (base & ~low) | (x & low);
    });
  const v4 = near(32).map((n) => [24n, 16n, 8n, 0n].map((shift) => (n >> shift) & 0xffn).join('.'));
  const v6 = near(128).map((n) => n.toString(16).padStart(32, '0').match(/.{4}/g)!.join(':'));
  let inside = 0;
  let runs = 0;
  const agrees = (family: 'ipv4' | 'ipv6') => (network: string, prefix: number, address: string) => {
    const list = new BlockList();
    list.addSubnet(network, prefix, family);
    const expected = list.check(address, family);
    assert.equal(inBlock(`${network}/${prefix}`, address), expected, `${network}/${prefix} ${address}`);
    runs++;
    if (expected) inside++;
  };
  fc.assert(fc.property(v4, fc.integer({ min: 1, max: 32 }), v4, agrees('ipv4')), { numRuns: 1_000 });
  fc.assert(fc.property(v6, fc.integer({ min: 1, max: 128 }), v6, agrees('ipv6')), { numRuns: 1_000 });
  assert.ok(inside > runs / 10 && inside < (runs * 9) / 10, `${inside} of ${runs}`);
});
