/**
 * A map whose entries end by themselves and whose size is bounded: what the protocol remembers about
 * addresses. Imports nothing. Invariant: `size` never exceeds `maxEntries`, and an entry is never
 * returned at or after its `expiresAtMs`. The oldest (longest not set) goes first when it is full.
 * `now` is milliseconds on the caller's clock.
 */
export class ExpiringMap<V> {
  private readonly map = new Map<string, { readonly value: V; readonly expiresAtMs: number }>();
  private readonly maxEntries: number;

  constructor(maxEntries: number) {
    this.maxEntries = maxEntries;
  }

  set(key: string, value: V, expiresAtMs: number): void {
    this.map.delete(key);
    this.map.set(key, { value, expiresAtMs });
    while (this.map.size > this.maxEntries) {
      this.map.delete(this.map.keys().next().value as string);
    }
  }

  get(key: string, now: number): V | undefined {
    const entry = this.map.get(key);
    if (entry === undefined) return undefined;
    if (now < entry.expiresAtMs) return entry.value;
    this.map.delete(key);
    return undefined;
  }

  has(key: string, now: number): boolean {
    return this.get(key, now) !== undefined;
  }

  delete(key: string): void {
    this.map.delete(key);
  }

  /** What has not expired, oldest first. */
  *entries(now: number): IterableIterator<[key: string, value: V]> {
    for (const [key, entry] of this.map) {
      if (now < entry.expiresAtMs) yield [key, entry.value];
    }
  }

  get size(): number {
    return this.map.size;
  }
}
