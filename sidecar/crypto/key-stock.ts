/** Ephemeral keys made ahead, while there is nothing else to do: a handshake then only takes them. */
import type { KeyPair } from './dh.ts';
import { type Generators, type KeyExchange, makeKeyExchanges, type Random } from './key-exchange.ts';
import type { DecapsulationKey } from './mlkem.ts';
import { RsaStock } from './rsa.ts';

const DEFAULT_SIZE = 32;

export class KeyStock {
  /**
   * Key exchanges that take their keys from here. Of X25519 and ML-KEM they make one where none is left; RSA is not
   * ready then.
   */
  readonly exchanges: ReadonlyMap<number, KeyExchange>;
  readonly #x25519: Shelf<KeyPair>;
  readonly #mlKem768: Shelf<DecapsulationKey>;

  /** Holds at most `size` keys of each kind, made by `x25519` and `mlKem768`. Each is handed out once. */
  constructor(random: Random, { x25519, mlKem768 }: Omit<Generators, 'rsa'>, size = DEFAULT_SIZE) {
    this.#x25519 = new Shelf(size, () => x25519.generate(random));
    this.#mlKem768 = new Shelf(size, () => mlKem768.generate(random));
    this.exchanges = makeKeyExchanges({
      x25519: { shareBytes: x25519.shareBytes, generate: () => this.#x25519.take() },
      mlKem768: { generate: () => this.#mlKem768.take(), encapsulate: mlKem768.encapsulate },
      rsa: new RsaStock(),
    });
  }

  get missing(): boolean {
    return this.#mlKem768.missing || this.#x25519.missing;
  }

  /** Makes one key that is missing, a tenth of a millisecond. */
  replenish(): void {
    if (this.#mlKem768.missing) this.#mlKem768.replenish();
    else if (this.#x25519.missing) this.#x25519.replenish();
  }
}

class Shelf<T> {
  readonly #size: number;
  readonly #make: () => T;
  readonly #keys: T[] = [];

  constructor(size: number, make: () => T) {
    this.#size = size;
    this.#make = make;
  }

  take(): T {
    return this.#keys.pop() ?? this.#make();
  }

  get missing(): boolean {
    return this.#keys.length < this.#size;
  }

  replenish(): void {
    this.#keys.push(this.#make());
  }
}
