/**
 * An exhaustive search of setup and fallback, on the very code of the rewriter: both ends, a few bytes each way, and
 * a network that is the set of all segments ever sent, any of them delivered any number of times, whole or with its
 * options stripped or cut, and every timer at every moment. wire.md section 4.
 *
 * States are told apart by a fingerprint of both ends, both kernels and the network; a state is reached again by
 * playing its actions from the start, for the rewriter is a function of them.
 */
import { createHash } from 'node:crypto';
import { keyExchanges } from '../../sidecar/crypto/key-exchange.ts';
import type { Rewriter } from '../../sidecar/rewriter/rewriter.ts';
import type { Policy, RewriterOptions } from '../../sidecar/rewriter/types.ts';
import { buildSegment, fieldsOf } from '../../sidecar/wire/build.ts';
import { hasOurOption } from '../../sidecar/wire/options.ts';
import {
  flagsOf,
  optionBytes,
  type Packet,
  parsePacket,
  payloadOf,
  SYN,
  seqNumber,
} from '../../sidecar/wire/packet.ts';
import { Kernel } from './kernel.ts';

export type RewriterClass = new (options: RewriterOptions) => Rewriter;

const CLIENT_SAYS = 'abcd';
const SERVER_SAYS = 'WXYZ';

/** What the network may do to a segment on its way. */
const HANDLINGS = ['whole', 'stripped', 'head', 'tail'] as const;
type Handling = (typeof HANDLINGS)[number];

export type Action =
  | { readonly kind: 'send'; readonly from: Side; readonly what: 'syn' | 'first' | 'second' | 'both' }
  | { readonly kind: 'deliver'; readonly to: Side; readonly segment: number; readonly how: Handling }
  | { readonly kind: 'timeout'; readonly at: Side };

type Side = 'client' | 'server';
const other = (side: Side): Side => (side === 'client' ? 'server' : 'client');

const policy: Policy = {
  generation: 'search',
  decide: () => ({ mode: 'Opportunistic', authentication: 'Optional' }),
  keyExchanges: [0x202],
  suites: [0x100],
  sessionCache: { enabled: false, maxEntries: 0, lifetimeMs: 0 },
  rekey: { afterBytes: 2 ** 36, afterMs: Number.POSITIVE_INFINITY },
  rstCheck: false,
};

interface End {
  readonly kernel: Kernel;
  readonly rewriter: Rewriter;
  readonly held: Map<number, Packet>;
  encryptedData: boolean;
  now: number;
  token: number;
}

export class World {
  readonly ends: Record<Side, End>;
  /** Segments that each side has sent, each once. */
  readonly wire: Record<Side, Packet[]> = { client: [], server: [] };
  private readonly seen: Record<Side, Set<string>> = { client: new Set(), server: new Set() };
  violation: string | undefined;

  constructor(Class: RewriterClass) {
    this.ends = { client: this.end('client', Class), server: this.end('server', Class) };
    this.fromKernel('client', this.ends.client.kernel.syn());
  }

  private end(side: Side, Class: RewriterClass): End {
    let drawn = side === 'client' ? 1 : 1000;
    const held = new Map<number, Packet>();
    const rewriter = new Class({
      policy,
      keyExchanges,
      encodings: { write: 'experimental', readBoth: false },
      random: (length) => {
        drawn++;
        return new Uint8Array(createHash('shake256', { outputLength: length }).update(`${drawn}`).digest());
      },
      output: {
        verdict: (token, verdict) => this.verdict(side, token, verdict),
        inject: (to, bytes) => {
          const p = parsePacket(bytes) as Packet;
          if (to === 'network') this.onWire(side, p);
          else this.toKernel(side, p);
        },
      },
      observer: { decided() {}, cacheLookup() {}, rekeyed() {}, macFailure() {}, dropped() {} },
    });
    const kernel =
      side === 'client'
        ? new Kernel(true, CLIENT_SAYS, SERVER_SAYS)
        : new Kernel(false, SERVER_SAYS, CLIENT_SAYS);
    return { kernel, rewriter, held, encryptedData: false, now: 1000, token: 0 };
  }

  /** Tokens are even for packets on their way out, odd for those that come in. */
  private verdict(side: Side, token: number, verdict: { kind: string; bytes?: Uint8Array }): void {
    const { held } = this.ends[side];
    const packet = held.get(token);
    held.delete(token);
    if (!packet || verdict.kind === 'drop') return;
    const p = verdict.bytes ? (parsePacket(verdict.bytes) as Packet) : packet;
    if (token % 2 === 0) this.onWire(side, p);
    else this.toKernel(side, p);
  }

  private handle(side: Side, direction: 'in' | 'out', p: Packet): void {
    const end = this.ends[side];
    end.token += 2;
    const token = direction === 'out' ? end.token : end.token + 1;
    end.held.set(token, p);
    end.rewriter.handle(direction, p.bytes.slice(), token, 'tcpcrypt', end.now);
  }

  private fromKernel(side: Side, p: Packet): void {
    this.handle(side, 'out', p);
  }

  private toKernel(side: Side, p: Packet): void {
    const { kernel } = this.ends[side];
    for (const answer of kernel.take(p)) this.fromKernel(side, answer);
    if (kernel.wrong) this.violation ??= `the ${side}'s application got a wrong ${kernel.wrong}`;
  }

  private onWire(side: Side, p: Packet): void {
    const ours = hasOurOption(optionBytes(p));
    const phase = this.phase(side);
    if (ours && payloadOf(p).length && (phase === 'encrypting' || phase === 's_mode')) {
      const init = seqNumber(p) === (this.ends[side].kernel.isn + 1) >>> 0 && phase !== 'encrypting';
      if (!init) this.ends[side].encryptedData = true;
    }
    const key = Buffer.from(p.bytes).toString('latin1');
    if (this.seen[side].has(key)) return;
    this.seen[side].add(key);
    this.wire[side].push(p);
  }

  phase(side: Side): string {
    return [...this.ends[side].rewriter.table.values()][0]?.phase ?? 'none';
  }

  actions(): Action[] {
    const actions: Action[] = [];
    for (const side of ['client', 'server'] as const) {
      const { kernel, rewriter } = this.ends[side];
      if (kernel.state === 'syn_sent') actions.push({ kind: 'send', from: side, what: 'syn' });
      if (kernel.state === 'established') {
        if (kernel.sent < 2) actions.push({ kind: 'send', from: side, what: 'first' });
        else if (kernel.sent < 4) actions.push({ kind: 'send', from: side, what: 'second' });
        else actions.push({ kind: 'send', from: side, what: 'both' });
      }
      if (rewriter.nextTimeout() !== undefined) actions.push({ kind: 'timeout', at: side });
      this.wire[other(side)].forEach((p, segment) => {
        const plain = !hasOurOption(optionBytes(p));
        const short = payloadOf(p).length < 16;
        for (const how of HANDLINGS) {
          if (plain && how === 'stripped') continue;
          if (short && (how === 'head' || how === 'tail')) continue;
          actions.push({ kind: 'deliver', to: side, segment, how });
        }
      });
    }
    return actions;
  }

  play(action: Action): void {
    switch (action.kind) {
      case 'send': {
        const end = this.ends[action.from];
        end.now += action.what === 'syn' ? 1000 : 1;
        const { kernel } = end;
        if (action.what === 'syn') this.fromKernel(action.from, kernel.syn());
        else if (action.what === 'first') this.fromKernel(action.from, kernel.data(0, 2));
        else if (action.what === 'second') this.fromKernel(action.from, kernel.data(2, 2));
        else this.fromKernel(action.from, kernel.data(0, 4));
        break;
      }
      case 'timeout': {
        const end = this.ends[action.at];
        // INIT is repeated as it was, which adds nothing to the network: on to the deadline.
        const connection = [...end.rewriter.table.values()][0];
        end.now = Math.max(end.now, connection?.deadline ?? end.rewriter.nextTimeout()!);
        end.rewriter.advance(end.now);
        break;
      }
      case 'deliver':
        this.handle(action.to, 'in', handled(this.wire[other(action.to)][action.segment]!, action.how));
    }
    this.check();
  }

  private check(): void {
    const [c, s] = [this.phase('client'), this.phase('server')];
    const bound = (phase: string) => phase === 'encrypting';
    const alive = this.ends.client.kernel.state !== 'reset' && this.ends.server.kernel.state !== 'reset';
    if (alive && ((bound(c) && s === 'plain') || (c === 'plain' && bound(s)))) {
      this.violation ??= `the ends are in different modes for good: client ${c}, server ${s}`;
    }
    for (const side of ['client', 'server'] as const) {
      if (this.ends[side].encryptedData && this.phase(side) === 'plain') {
        this.violation ??= `the ${side} went plain after it had sent ciphertext`;
      }
    }
  }

  fingerprint(): string {
    const hash = createHash('sha1');
    for (const side of ['client', 'server'] as const) {
      const { kernel, rewriter, held } = this.ends[side];
      const c = [...rewriter.table.values()][0];
      const state = c && [
        c.phase,
        c.reason,
        c.isnRemote,
        c.txDelta,
        c.rxDelta,
        c.txNext,
        c.txAcked,
        c.rxNext,
        !!c.plainSyn,
        c.kernelAcked,
        c.kernelAck,
        !!c.initiation,
        !!c.initSent,
        c.initSeen?.length,
        c.declined,
        c.plainNext,
        c.peerPlainSeen,
        c.finished,
        c.verified,
        c.deadline !== undefined,
      ];
      const syn = [...rewriter.syns.values()][0];
      const waiting = [...held.values()].map((p) => `${seqNumber(p)}+${payloadOf(p).length}`);
      const wire = this.wire[side].map((p) => createHash('sha1').update(p.bytes).digest('base64')).sort();
      hash.update(JSON.stringify([kernel.fingerprint(), state, syn?.offered, [...new Set(waiting)], wire]));
    }
    return hash.digest('latin1');
  }
}

function handled(p: Packet, how: Handling): Packet {
  if (how === 'whole') return p;
  const fields = fieldsOf(p);
  const syn = flagsOf(p) & SYN;
  const options = syn ? fields.options.slice(0, 4) : new Uint8Array(0);
  const half = fields.payload.length >> 1;
  if (how === 'stripped') return buildSegment(p, { ...fields, options });
  if (how === 'head') return buildSegment(p, { ...fields, options, payload: fields.payload.slice(0, half) });
  return buildSegment(p, { ...fields, options, seq: fields.seq + half, payload: fields.payload.slice(half) });
}

export interface Result {
  readonly states: number;
  readonly depth: number;
  /** All states within `depth` were visited. */
  readonly complete: boolean;
  readonly violation: string | undefined;
  readonly trace: readonly Action[];
  /** Pairs of phases (client, server) that were reached. */
  readonly phases: ReadonlySet<string>;
}

/** Breadth first, to `maxDepth` actions or `maxStates` states. Stops at the first violation. */
export function search(Class: RewriterClass, maxDepth: number, maxStates: number): Result {
  const visited = new Set<string>();
  const phases = new Set<string>();
  let frontier: Action[][] = [[]];
  const replay = (actions: readonly Action[]): World => {
    const world = new World(Class);
    for (const action of actions) world.play(action);
    return world;
  };
  visited.add(replay([]).fingerprint());
  for (let depth = 1; depth <= maxDepth; depth++) {
    const next: Action[][] = [];
    for (const path of frontier) {
      for (const action of replay(path).actions()) {
        const world = replay(path);
        world.play(action);
        const trace = [...path, action];
        phases.add(`${world.phase('client')} ${world.phase('server')}`);
        if (world.violation) {
          return { states: visited.size, depth, complete: false, violation: world.violation, trace, phases };
        }
        const print = world.fingerprint();
        if (visited.has(print)) continue;
        visited.add(print);
        next.push(trace);
        if (visited.size >= maxStates) {
          return { states: visited.size, depth, complete: false, violation: undefined, trace: [], phases };
        }
      }
    }
    frontier = next;
  }
  return { states: visited.size, depth: maxDepth, complete: true, violation: undefined, trace: [], phases };
}
