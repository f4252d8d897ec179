/**
 * A host: model TCP above, packet filter and rewriter below. The filter does what `netfilter/rules.ts` and
 * `sidecar/runtime/packet-loop.ts` do together: marks per connection, a setup queue that is passed by and a
 * data queue that drops while no rewriter listens.
 */

import type {
  ConnectionMark,
  Direction,
  Output,
  RewriterMachine,
  Verdict,
} from '../../sidecar/rewriter/types.ts';
import type { Clock, Timer } from './clock.ts';
import { ACK, decode, FIN, listOptions, RST, type Segment, SYN } from './segment.ts';
import type { TcpHost } from './tcp-host.ts';

export interface HostEvents {
  /** A packet leaves the host; `from` tells the rewriter's own from the kernel's. */
  leaves(bytes: Uint8Array): void;
  /** A packet is given to the kernel's TCP; checked before it is processed. */
  enters(bytes: Uint8Array): void;
  queued(direction: Direction, bytes: Uint8Array, mark: ConnectionMark): void;
  broken(property: string, detail: string): void;
}

/** A packet that waits for its verdict. */
interface Queued {
  readonly direction: Direction;
  readonly bytes: Uint8Array;
  /** Passes when nobody listens. */
  readonly bypass: boolean;
  readonly mark: ConnectionMark;
  readonly entry: Entry | undefined;
  readonly name: string;
}

interface Entry {
  /** The connmark's state; `asked` while a SYN or SYN-ACK is, or was, in the setup queue undecided. */
  state: ConnectionMark | 'asked';
  readonly fins: Set<Direction>;
  reset: boolean;
  /** What each direction acknowledged last, as conntrack sees it: before our translation. */
  readonly acked: { in?: number; out?: number };
  /** It is in conntrack's table only when the packet that it came with has gone on (__nf_conntrack_confirm). */
  confirmed: boolean;
}

export class FilteredHost implements Output {
  tcp!: TcpHost;
  machine: RewriterMachine | undefined;
  /** The rewriter's process is not there. */
  down = false;
  readonly pending = new Map<number, Queued>();
  private readonly entries = new Map<string, Entry>();
  private token = 0;
  private timer: Timer | undefined;
  private depth = 0;
  private spins = 0;
  private lastWake = -1;

  private readonly clock: Clock;
  private readonly kinds: ReadonlySet<number>;
  /** A packet waits so long in the queue: its mark, and what the kernel knew, are that old. */
  private readonly queueDelayMs: number;
  private readonly strict: boolean;
  private readonly events: HostEvents;

  constructor(
    clock: Clock,
    kinds: ReadonlySet<number>,
    queueDelayMs: number,
    strict: boolean,
    events: HostEvents,
  ) {
    this.clock = clock;
    this.kinds = kinds;
    this.queueDelayMs = queueDelayMs;
    this.strict = strict;
    this.events = events;
  }

  /** From the kernel, on its way out. */
  out(bytes: Uint8Array): void {
    this.pass('out', bytes);
  }

  /** From the network. */
  in(bytes: Uint8Array, seesDamaged: boolean): void {
    if (typeof decode(bytes) === 'string' && !seesDamaged) return;
    this.pass('in', bytes);
  }

  private pass(direction: Direction, bytes: Uint8Array): void {
    if (this.machine === undefined && !this.down) {
      this.forward(direction, bytes);
      return;
    }
    const segment = decode(bytes);
    if (typeof segment === 'string') {
      // conntrack has no entry for a damaged segment: it goes to the data queue without state.
      this.enqueue(direction, bytes, { mark: 'none', bypass: false, entry: undefined, name: '' });
      return;
    }
    const name = nameOf(direction, segment);
    const entry = this.entryOf(name, direction, segment);
    const { state } = entry;
    const syn = (segment.flags & SYN) !== 0;
    const ours = listOptions(segment.options).some((option) => this.kinds.has(option.kind));
    const enqueue = (mark: ConnectionMark, bypass: boolean): void =>
      this.enqueue(direction, bytes, { mark, bypass, entry, name });
    if (state === 'tcpcrypt') enqueue('tcpcrypt', false);
    else if (syn && state !== 'plain') {
      if (!this.strict) entry.state = 'asked';
      enqueue(state === 'none' ? 'none' : 'offered', !this.strict);
    } else if (state === 'none') enqueue('none', false);
    else if (ours && !syn) enqueue(state === 'asked' ? 'none' : 'plain', false);
    else if (state === 'asked') enqueue('none', true);
    else this.confirmed(name, entry) && this.forward(direction, bytes);
  }

  /**
   * Whether a packet may go on: an entry that was made for it must not clash with one that came into the table
   * while it waited. (TCP's clashes are not resolved; nf_ct_resolve_clash.)
   */
  private confirmed(name: string, entry: Entry): boolean {
    if (entry.confirmed) return true;
    if (this.entries.has(name)) return false;
    entry.confirmed = true;
    this.entries.set(name, entry);
    return true;
  }

  private enqueue(direction: Direction, bytes: Uint8Array, how: Omit<Queued, 'direction' | 'bytes'>): void {
    if (this.down) {
      if (how.bypass && this.confirmed(how.name, how.entry!)) this.forward(direction, bytes);
      return;
    }
    const token = ++this.token;
    this.pending.set(token, { direction, bytes: bytes.slice(), ...how });
    const handle = (): void => {
      if (!this.pending.has(token)) return;
      this.events.queued(direction, bytes, how.mark);
      this.call((machine) => machine.handle(direction, bytes.slice(), token, how.mark, this.clock.now));
    };
    if (this.queueDelayMs === 0) handle();
    else this.clock.after(this.queueDelayMs, handle);
  }

  private entryOf(name: string, direction: Direction, segment: Segment): Entry {
    const { flags } = segment;
    let entry = this.entries.get(name);
    const begins = (flags & (SYN | ACK | RST)) === SYN;
    if (entry === undefined || (begins && (entry.reset || entry.fins.size === 2))) {
      this.entries.delete(name);
      entry = { state: 'none', fins: new Set(), reset: false, acked: {}, confirmed: false };
    }
    // nf_conntrack_proto_tcp: an RST closes an established entry only with the number last acknowledged.
    const { in: ackIn, out: ackOut } = entry.acked;
    const acked = direction === 'in' ? ackOut : ackIn;
    const established = ackIn !== undefined && ackOut !== undefined;
    if (flags & RST && (!established || segment.seq === acked)) entry.reset = true;
    if (flags & FIN) entry.fins.add(direction);
    if (flags & ACK) entry.acked[direction] = segment.ack;
    return entry;
  }

  /** conntrack forgets a connection: a timeout, a full table, an administrator. */
  forgetMarks(): void {
    this.entries.clear();
  }

  private forward(direction: Direction, bytes: Uint8Array): void {
    if (direction === 'out') this.events.leaves(bytes);
    else {
      this.events.enters(bytes);
      this.tcp.input(bytes);
    }
  }

  verdict(token: number, verdict: Verdict): void {
    const packet = this.pending.get(token);
    if (packet === undefined) {
      this.events.broken('one verdict a packet', `token ${token} was answered twice, or never queued`);
      return;
    }
    this.pending.delete(token);
    if (verdict.kind === 'drop') return;
    const { name } = packet;
    // Sent afresh it finds the entry that is there by now, or makes one at once.
    const entry = verdict.afresh ? (this.entries.get(name) ?? packet.entry) : packet.entry;
    if (entry !== undefined) {
      if (!this.confirmed(name, entry)) return;
      if (verdict.mark !== undefined) entry.state = verdict.mark === 'none' ? 'offered' : verdict.mark;
    }
    this.later(packet.direction, verdict.bytes === undefined ? packet.bytes : verdict.bytes.slice());
  }

  inject(to: 'network' | 'kernel', bytes: Uint8Array): void {
    this.later(to === 'network' ? 'out' : 'in', bytes.slice());
  }

  private readonly backlog: { direction: Direction; bytes: Uint8Array }[] = [];

  /** What a call puts out takes effect when the call has returned: the kernel does not run inside the rewriter. */
  private later(direction: Direction, bytes: Uint8Array): void {
    this.backlog.push({ direction, bytes });
    if (this.depth === 0) this.drain();
  }

  private drain(): void {
    for (let next = this.backlog.shift(); next !== undefined; next = this.backlog.shift()) {
      const { direction, bytes } = next;
      this.forward(direction, bytes);
    }
  }

  /** Runs one call into the rewriter, then what it put out. */
  call(run: (machine: RewriterMachine) => void): void {
    const { machine } = this;
    if (machine === undefined) return;
    this.depth++;
    try {
      run(machine);
    } finally {
      this.depth--;
    }
    if (this.depth === 0) this.drain();
    this.rearm();
  }

  rearm(): void {
    if (this.timer !== undefined) this.timer.cancelled = true;
    const at = this.machine?.nextTimeout();
    if (at === undefined) return;
    this.spins = at <= this.clock.now && this.lastWake === this.clock.now ? this.spins + 1 : 0;
    if (this.spins > 50) {
      this.events.broken(
        'timers come to rest',
        `nextTimeout() stays at ${at} after advance(${this.clock.now})`,
      );
      return;
    }
    this.timer = this.clock.schedule(Math.ceil(at), () => {
      this.lastWake = this.clock.now;
      this.call((machine) => machine.advance(this.clock.now));
    });
  }

  /** The process dies: what it held is lost. */
  crash(): void {
    this.machine = undefined;
    this.down = true;
    this.pending.clear();
    if (this.timer !== undefined) this.timer.cancelled = true;
  }
}

function nameOf(direction: Direction, segment: Segment): string {
  return direction === 'out'
    ? `${segment.sport}>${segment.dst}:${segment.dport}`
    : `${segment.dport}>${segment.src}:${segment.sport}`;
}
