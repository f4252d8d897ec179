/**
 * Lists of connections for the main thread, made a few at a time between batches of packets: a large table must
 * not delay a packet. A list is not a moment's picture; what comes and goes meanwhile may be in it or not.
 */
import type { ConnectionInfo } from '../rewriter/types.ts';
import type { FromPacketThread } from './messages.ts';

export interface ListRequest {
  readonly id: number;
  /** Only connections with these ends. */
  readonly local?: string;
  readonly remote?: string;
}

const PER_STEP = 128;

export class Listings {
  readonly #connections: () => Iterator<ConnectionInfo>;
  readonly #waiting: Listing[] = [];

  constructor(connections: () => Iterator<ConnectionInfo>) {
    this.#connections = connections;
  }

  get busy(): boolean {
    return this.#waiting.length > 0;
  }

  add(request: ListRequest): void {
    this.#waiting.push({ request, rest: this.#connections() });
  }

  /** Goes on with the oldest list. */
  step(post: (message: FromPacketThread) => void): void {
    const first = this.#waiting[0];
    if (first === undefined) return;
    const { id } = first.request;
    try {
      const { found, ended } = take(first);
      if (found.length > 0) post({ kind: 'connections', id, connections: found });
      if (!ended) return;
      post({ kind: 'done', id });
    } catch (error) {
      post({ kind: 'done', id, error: String((error as Error).stack) });
    }
    this.#waiting.shift();
  }
}

interface Listing {
  readonly request: ListRequest;
  readonly rest: Iterator<ConnectionInfo>;
}

function take({ request: { local, remote }, rest }: Listing): { found: ConnectionInfo[]; ended: boolean } {
  const found: ConnectionInfo[] = [];
  for (let i = 0; i < PER_STEP; i++) {
    const { done, value } = rest.next();
    if (done) return { found, ended: true };
    if ((local ?? value.local) === value.local && (remote ?? value.remote) === value.remote)
      found.push(value);
  }
  return { found, ended: false };
}
