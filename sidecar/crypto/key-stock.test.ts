import assert from 'node:assert/strict';
import { test } from 'node:test';
import { x25519 } from './dh.ts';
import { keyExchanges, systemRandom } from './key-exchange.ts';
import { KeyStock } from './key-stock.ts';
import { mlKem768 } from './mlkem.ts';

const HYBRID = 0x210;

test('a stock fills up to its size, one key at a time, and again when keys were taken', () => {
  const stock = new KeyStock(systemRandom, { x25519, mlKem768 }, 2);
  const fill = (): number => {
    let made = 0;
    for (; stock.missing; made++) stock.replenish();
    return made;
  };
  assert.equal(fill(), 4, 'two of each kind');
  stock.replenish();
  stock.exchanges.get(HYBRID)!.generate(systemRandom);
  assert.equal(fill(), 2, 'one of each kind');
});

test('keys from the stock agree with an exchange without one, and no key comes twice', () => {
  const stock = new KeyStock(systemRandom, { x25519, mlKem768 }, 3);
  while (stock.missing) stock.replenish();
  for (const id of [HYBRID, 0x202, 0x200]) {
    const [stocked, fresh] = [stock.exchanges.get(id)!, keyExchanges.get(id)!];
    const seen = new Set<string>();
    // More than the stock holds.
    for (let i = 0; i < 5; i++) {
      for (const [c, s] of [
        [stocked, fresh],
        [fresh, stocked],
      ] as const) {
        const offer = c.generate(systemRandom);
        const response = s.respond(offer.publicKey, systemRandom);
        assert.ok(response !== 'invalid');
        const pms = offer.complete(response.keyMaterial);
        assert.deepEqual(pms, response.pms);
        seen.add(Buffer.from(offer.publicKey).toString('hex'));
      }
    }
    assert.equal(seen.size, 10, `${fresh.name}: a key was handed out twice`);
  }
});
