/**
 * Who waits for whom: work on the same thing goes one after the other, and no more than a few at a time overall. Of
 * those that wait the newest goes first: where more is asked for than can be done, whoever has waited for long has gone
 * (the plugin waits two seconds), and served in order everybody would be served too late.
 */
export class Turns {
  readonly #most: number;
  #running = 0;
  readonly #waiting: (() => void)[] = [];
  readonly #last = new Map<unknown, Promise<unknown>>();

  constructor(most: number) {
    this.#most = most;
  }

  async take<T>(thing: unknown, work: () => Promise<T>): Promise<T> {
    const before = this.#last.get(thing) ?? Promise.resolve();
    const mine = before.catch(() => {}).then(() => this.#limited(work));
    this.#last.set(thing, mine);
    try {
      return await mine;
    } finally {
      if (this.#last.get(thing) === mine) this.#last.delete(thing);
    }
  }

  async #limited<T>(work: () => Promise<T>): Promise<T> {
    while (this.#running >= this.#most) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#running++;
    try {
      return await work();
    } finally {
      this.#running--;
      this.#waiting.pop()?.();
    }
  }
}
