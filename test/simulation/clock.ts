/** Virtual time: a queue of events in order of time, then of scheduling. Nothing here waits. */

export interface Timer {
  readonly at: number;
  cancelled: boolean;
}

interface Entry extends Timer {
  readonly order: number;
  readonly run: () => void;
}

export class Clock {
  now = 0;
  events = 0;
  private heap: Entry[] = [];
  private order = 0;

  /** Runs `run` at `at` (never before now); the handle can be cancelled. */
  schedule(at: number, run: () => void): Timer {
    const entry: Entry = { at: Math.max(at, this.now), order: this.order++, run, cancelled: false };
    const heap = this.heap;
    let i = heap.length;
    heap.push(entry);
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (before(heap[parent]!, entry)) break;
      heap[i] = heap[parent]!;
      i = parent;
    }
    heap[i] = entry;
    return entry;
  }

  after(delay: number, run: () => void): Timer {
    return this.schedule(this.now + delay, run);
  }

  /** Runs the next event; false when none is left or the next lies beyond `until`. */
  step(until: number): boolean {
    for (;;) {
      const next = this.heap[0];
      if (next === undefined || (next.at > until && !next.cancelled)) return false;
      this.pop();
      if (next.cancelled) continue;
      this.now = next.at;
      this.events++;
      next.run();
      return true;
    }
  }

  private pop(): void {
    const heap = this.heap;
    const last = heap.pop()!;
    if (heap.length === 0) return;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++;
      if (before(last, heap[child]!)) break;
      heap[i] = heap[child]!;
      i = child;
    }
    heap[i] = last;
  }
}

function before(x: Entry, y: Entry): boolean {
  return x.at !== y.at ? x.at < y.at : x.order < y.order;
}
