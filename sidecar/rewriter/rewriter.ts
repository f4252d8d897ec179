/**
 * The rewriter: the connection table and a packet's way through it. What happens in each phase is in
 * `setup-active`, `setup-passive`, `encrypting` and `plain`; `lifecycle` holds the moments between them.
 * Pure: packets and time go in, actions come out through `Output`.
 */
import { type Suite, suites } from '../crypto/asm.ts';
import type { KeyExchange } from '../crypto/key-exchange.ts';
import type { Algorithms, Means } from '../protocol/handshake.ts';
import {
  ExchangeHints,
  KnownPeers,
  type Listed,
  NegativeList,
  SharedList,
} from '../protocol/negative-list.ts';
import { PathMtus } from '../protocol/path-mtus.ts';
import { SessionCache } from '../protocol/session-cache.ts';
import { buildReply, buildSegment, fieldsOf } from '../wire/build.ts';
import { checksumsValid } from '../wire/checksum.ts';
import { hasOurOption, KIND_MSS, layoutLinux, mssOption, optionKind } from '../wire/options.ts';
import {
  ACK,
  ackNumber,
  destinationAddress,
  destinationPort,
  flagsOf,
  flowKey,
  formatAddress,
  localEndpoint,
  optionBytes,
  type Packet,
  parsePacket,
  RST,
  remoteEndpoint,
  SYN,
  sourceAddress,
  sourcePort,
} from '../wire/packet.ts';
import { receiveSynAck, sendSyn } from './active-syn.ts';
import { activeTimeout, receiveInCMode, sendInCMode } from './c-mode.ts';
import { encode } from './checkpoint.ts';
import { Connection, comeWhole, type Identity } from './connection.ts';
import { receiveEncrypted, sendEncrypted } from './encrypting.ts';
import { FastPath } from './fast-path.ts';
import { Flows } from './flows.ts';
import { OVERHEAD_BYTES, receiveIcmp } from './icmp.ts';
import { infoOf, stateOf } from './info.ts';
import { endInSetup, forgetKeys, learnFromEnd, storeKey } from './lifecycle.ts';
import { Answers, receiveSyn, type SynRecord, sendSynAck } from './passive-syn.ts';
import { receivePlain, refuse, sendPlain } from './plain.ts';
import {
  passiveTimeout,
  receiveEncryptedPassive,
  receiveInListen,
  receiveInSMode,
  sendInSetup,
} from './s-mode.ts';
import { carriesInit, copyPacket, viewOf } from './setup.ts';
import { reconcile, restore } from './sockets.ts';
import type {
  AppSupport,
  CheckpointStore,
  ConnectionInfo,
  ConnectionMark,
  Direction,
  Observer,
  Offload,
  Policy,
  RewriterLimits,
  RewriterMachine,
  RewriterOptions,
  SocketInfo,
  Timers,
  TrustKey,
} from './types.ts';

const DEFAULT_TIMERS: Timers = { initRetransmitMs: 200, initTimeoutMs: 3000, setupIdleMs: 130_000 };
const DEFAULT_LIMITS: RewriterLimits = {
  maxConnections: 100_000,
  maxSetups: 4096,
  maxHeldPackets: 64,
  maxCollectedBytes: 64 * 1024 * 1024,
};
/** Longer than a SYN-ACK is repeated. */
const SYN_RECORD_MS = 75_000;
const MAX_OWN_NONCES = 4096;
const MAX_LINKS = 64;
const NO_OFFLOAD: Offload = { superSegment: false, checksumLater: false };

export class Rewriter implements RewriterMachine {
  readonly observer: Observer;
  readonly encodings: RewriterOptions['encodings'];
  readonly random: (length: number) => Uint8Array;
  private readonly exchanges: ReadonlyMap<number, KeyExchange>;
  readonly timers: Timers;
  readonly keyLog: boolean;
  readonly store: CheckpointStore | undefined;
  readonly suites: ReadonlyMap<number, Suite>;
  readonly cache: SessionCache;
  readonly negative = new NegativeList();
  readonly shared = new SharedList();
  readonly known = new KnownPeers();
  readonly hints = new ExchangeHints();
  readonly paths = new PathMtus();
  readonly table = new Map<string, Connection>();
  /** The same by a packet's bytes. */
  readonly flows = new Flows();
  readonly syns = new Map<string, SynRecord>();
  policy: Policy;
  /** Of the policy's those that there are. */
  algorithms: Algorithms;
  answers: Answers;
  trustKeys: readonly TrustKey[];
  now = 0;
  /** The packet at hand. */
  private queued = {
    token: -1,
    mark: 'none' as ConnectionMark,
    key: '',
    begins: false,
    offload: NO_OFFLOAD,
  };
  private readonly options: RewriterOptions;
  private readonly limits: RewriterLimits;
  private readonly timed = new Set<Connection>();
  private nextAt = Number.POSITIVE_INFINITY;
  /** Connections with incomplete super-segments, longest untouched first, and what those take. */
  private readonly collecting = new Set<Connection>();
  private collectedBytes = 0;
  private readonly support = new Map<number, AppSupport>();
  private readonly ownNonces = new Set<string>();
  /** Our own MSS by local address, as the kernel last announced it. */
  private readonly linkMss = new Map<string, number>();
  private readonly fastPath: FastPath;

  constructor(options: RewriterOptions) {
    this.options = options;
    this.observer = options.observer;
    this.encodings = options.encodings;
    this.random = options.random;
    this.exchanges = options.keyExchanges;
    this.timers = { ...DEFAULT_TIMERS, ...options.timers };
    this.limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.keyLog = options.keyLog ?? false;
    this.store = options.store;
    this.suites = options.suites ?? suites;
    this.policy = options.policy;
    this.algorithms = this.algorithmsOf(options.policy);
    this.answers = new Answers(this.algorithms);
    this.trustKeys = options.trustKeys ?? [];
    this.cache = new SessionCache(options.policy.sessionCache);
    this.fastPath = new FastPath(this);
  }

  // Packets

  handle(
    direction: Direction,
    bytes: Uint8Array,
    token: number,
    mark: ConnectionMark,
    now: number,
    offload = NO_OFFLOAD,
  ): void {
    this.now = now;
    this.queued = { token, mark, key: '', begins: false, offload };
    const p = parsePacket(bytes);
    if (p === 'not_tcp') return receiveIcmp(this, bytes, token);
    // What cannot be read belongs to no connection of ours, unless it is marked: then it could be plaintext.
    if (typeof p === 'string') return this.isMarked ? this.drop(token, p) : this.pass(token);
    this.queued.key = flowKey(p, direction);
    this.queued.begins = (flagsOf(p) & (SYN | ACK)) === SYN;
    const c = this.table.get(this.queued.key);
    if (direction === 'out') this.send(p, c, token);
    else this.receive(p, c, token);
  }

  rewriteInPlace(
    direction: Direction,
    ring: Uint8Array,
    start: number,
    end: number,
    mark: ConnectionMark,
    now: number,
    offload = NO_OFFLOAD,
  ): number {
    this.now = now;
    return this.fastPath.rewrite(direction, ring, start, end, mark, offload);
  }

  private send(p: Packet, c: Connection | undefined, token: number): void {
    const flags = flagsOf(p);
    if (flags & SYN) return flags & ACK ? sendSynAck(this, c, p, token) : sendSyn(this, c, p, token);
    switch (c?.phase) {
      case undefined:
        return this.unknown(p, 'out', token);
      case 'syn_sent':
        // An RST is the answer to somebody's stray segment; the SYN is repeated all the same.
        return this.pass(token);
      case 'c_mode':
        return sendInCMode(this, c!, p, token);
      case 'listen':
      case 's_mode':
        return sendInSetup(this, c!, p, token);
      case 'encrypting':
        return sendEncrypted(this, c!, p, token, this.queued.offload.superSegment);
      case 'plain':
        return sendPlain(this, c!, p, token);
    }
  }

  private receive(p: Packet, c: Connection | undefined, token: number): void {
    const flags = flagsOf(p);
    // Damaged: no MAC shows it in setup, and none covers timestamps. What we build anew would have a right checksum.
    const read = flags & SYN || hasOurOption(optionBytes(p)) || (c && !c.finished);
    if (read && !this.queued.offload.checksumLater && !checksumsValid(p)) {
      return c?.phase === 'encrypting' && !(flags & SYN) ? this.drop(token, 'checksum') : this.pass(token);
    }
    const synAck = !!(flags & SYN && flags & ACK);
    if (c?.phase === 'encrypting') {
      return c.active ? receiveEncrypted(this, c, p, token) : receiveEncryptedPassive(this, c, p, token);
    }
    if (synAck && c?.active) return receiveSynAck(this, c, p, token);
    if (synAck && c && c.phase !== 'plain' && this.isMarked) return this.drop(token, 'setup_numbers');
    if (synAck && !c) {
      const fresh = new Connection(this.identify(p, 'in', true), 'plain');
      // The SYN went by while we were away.
      if (fresh.decision.mode === 'Strict') return refuse(this, fresh, p, token, 'in', 'bypassed');
      return this.pass(token, this.withoutOurOptions(p), 'plain');
    }
    if (synAck) return this.pass(token, undefined, c!.finished ? 'plain' : undefined);
    if (flags & SYN) return receiveSyn(this, c, p, token);
    switch (c?.phase) {
      case undefined:
        return this.unknown(p, 'in', token);
      case 'syn_sent': {
        const refused = flags & RST && flags & ACK && ackNumber(p) === (c!.isnLocal + 1) >>> 0;
        return refused ? endInSetup(this, c!, p, token) : this.pass(token, this.withoutOurOptions(p));
      }
      case 'c_mode':
        return receiveInCMode(this, c!, p, token);
      case 'listen':
        return receiveInListen(this, c!, p, token);
      case 's_mode':
        return receiveInSMode(this, c!, p, token);
      case 'plain':
        return receivePlain(this, c!, p, token);
    }
  }

  /** A segment of a connection that the table does not hold. If it is marked tcpcrypt, its keys are gone. */
  private unknown(p: Packet, direction: Direction, token: number): void {
    const flags = flagsOf(p);
    const view = viewOf(this, p);
    if (direction === 'in' && (carriesInit(view.crypt) || (view.hasMac && !this.isMarked))) {
      return this.drop(token, 'keys_gone');
    }
    if (!this.isMarked || flags & RST) {
      return this.pass(
        token,
        direction === 'in' ? this.withoutOurOptions(p) : undefined,
        this.queued.mark === 'none' ? 'plain' : undefined,
      );
    }
    this.drop(token, 'keys_gone');
    if (!(flags & ACK)) return;
    const none = new Uint8Array(0);
    const reset = { seq: 0, ack: 0, flags: RST, window: 0, urgent: 0, options: none, payload: none };
    const answer = buildReply(p, { ...reset, seq: ackNumber(p) });
    if (direction === 'out') this.toKernel(answer);
    else this.toNetwork(answer);
  }

  // Actions

  pass(token: number, packet?: Packet, mark?: ConnectionMark): void {
    this.passBytes(token, packet?.bytes, mark);
  }

  passBytes(token: number, bytes?: Uint8Array, mark?: ConnectionMark): void {
    const unmarked = this.unmarked(token);
    const decided = mark ?? (unmarked ? lostMark(unmarked) : this.otherQueue(token));
    // With `none` each packet has an entry of its own; a first SYN is meant to make one.
    const lost = this.queued.mark === 'none' && !this.queued.begins;
    const afresh = lost && unmarked && !unmarked.boundToInterface;
    this.options.output.verdict(token, {
      kind: 'accept',
      ...(bytes && { bytes }),
      ...(decided && { mark: decided }),
      ...(decided && afresh && { afresh }),
    });
  }

  /**
   * The connection of the packet at hand, where it is not plain for good and yet the packet came without its mark:
   * conntrack has forgotten it, and anybody's SYN for its 4-tuple may have made a new entry. It gets its mark back.
   */
  private unmarked(token: number): Connection | undefined {
    if (token !== this.queued.token || this.isMarked) return undefined;
    const c = this.table.get(this.queued.key);
    return c?.finished ? undefined : c;
  }

  /** The mark of the queue that a bound connection's size of super-segments asks for, where the packet came on the other. */
  private otherQueue(token: number): ConnectionMark | undefined {
    const { mark, key } = this.queued;
    if (token !== this.queued.token || !this.isMarked) return undefined;
    const c = this.table.get(key);
    if (c?.phase !== 'encrypting') return undefined;
    const wanted = comeWhole(c) ? 'superSegment' : 'tcpcrypt';
    return mark === wanted ? undefined : wanted;
  }

  /** Whether an earlier SYN of the connection at hand may have gone by without us. */
  get passedBy(): boolean {
    return this.queued.mark === 'offered';
  }

  /** Whether the packet at hand came marked as its connection is; if not, it must go on, with a mark. */
  get isMarked(): boolean {
    return this.queued.mark === 'tcpcrypt' || this.queued.mark === 'superSegment';
  }

  drop(token: number, why: string): void {
    this.observer.dropped(why);
    this.options.output.verdict(token, { kind: 'drop' });
  }

  /** What the packet says goes on in another one. */
  goesOnElsewhere(token: number): void {
    this.options.output.verdict(token, { kind: 'drop', elsewhere: true });
  }

  toNetwork(packet: Packet | undefined): void {
    if (packet) this.options.output.inject('network', packet.bytes);
  }

  toKernel(packet: Packet): void {
    this.options.output.inject('kernel', packet.bytes);
  }

  hold(c: Connection, packet: Packet, token: number): void {
    c.held ??= [];
    if (c.held.length >= this.limits.maxHeldPackets) return this.drop(token, 'held_too_many');
    const { superSegment } = this.queued.offload;
    c.held.push({ token, packet: copyPacket(packet), superSegment });
  }

  releaseHeld(c: Connection, how: 'send' | 'plain' | 'drop'): void {
    const { held } = c;
    if (held === undefined) return;
    c.held = undefined;
    for (const { token, packet, superSegment } of held) {
      if (how === 'send') sendEncrypted(this, c, packet, token, superSegment);
      else if (how === 'plain') sendPlain(this, c, packet, token);
      else this.drop(token, 'held');
    }
  }

  // Packets' options

  /** The packet without CRYPT and MAC, and with MSS lowered to `mss`; undefined if that changes nothing. */
  withoutOurOptions(p: Packet, mss?: number): Packet | undefined {
    const { options } = viewOf(this, p);
    if (!options)
      return hasOurOption(optionBytes(p))
        ? buildSegment(p, { ...fieldsOf(p), options: new Uint8Array(0) })
        : undefined;
    const lower = mss !== undefined && (options.mss === undefined || mss < options.mss);
    if (!lower && !hasOurOption(optionBytes(p))) return undefined;
    const items = options.items.filter((item) => !(lower && optionKind(item) === KIND_MSS));
    if (lower) items.unshift(mssOption(mss));
    return buildSegment(p, { ...fieldsOf(p), options: layoutLinux(items) ?? new Uint8Array(0) });
  }

  /**
   * What our kernel may believe the peer's MSS to be, once tcpcrypt is on offer (wire.md section 4). A SYN with
   * timestamps does not say that our kernel will use them.
   */
  clampMss(p: Packet, mssRemote: number, mssLocal?: number): number {
    const local = mssLocal ?? this.linkMss.get(formatAddress(destinationAddress(p))) ?? 65535;
    const agreed = flagsOf(p) & ACK && viewOf(this, p).options?.timestamps;
    const overhead = agreed ? OVERHEAD_BYTES.timestamps : OVERHEAD_BYTES.none;
    return Math.max(64, Math.min(mssRemote, local) - overhead);
  }

  /** Takes note of the MSS that our kernel announces from this address. */
  noteLinkMss(p: Packet, mss: number): void {
    const address = formatAddress(sourceAddress(p));
    if (this.linkMss.get(address) === mss) return;
    this.linkMss.delete(address);
    this.linkMss.set(address, mss);
    if (this.linkMss.size > MAX_LINKS) this.linkMss.delete(this.linkMss.keys().next().value!);
  }

  // What connections ask of the whole

  identify(p: Packet, direction: Direction, active: boolean): Identity {
    const peer = formatAddress(direction === 'out' ? destinationAddress(p) : sourceAddress(p));
    const listener = active === (direction === 'out') ? destinationPort(p) : sourcePort(p);
    return {
      key: flowKey(p, direction),
      local: localEndpoint(p, direction),
      remote: remoteEndpoint(p, direction),
      peer,
      active,
      decision: this.policy.decide(active ? 'Outbound' : 'Inbound', listener, peer),
      openedAt: this.now,
    };
  }

  means(): Means {
    const { exchanges, trustKeys, random } = this;
    return { exchanges, algorithms: this.algorithms, trustKeys, random };
  }

  private algorithmsOf(policy: Policy): Algorithms {
    return {
      keyExchanges: policy.keyExchanges.filter((id) => this.exchanges.has(id)),
      suites: policy.suites.filter((id) => this.suites.has(id)),
    };
  }

  appSupport(c: Pick<Connection, 'active' | 'local' | 'remote'>): AppSupport {
    const endpoint = c.active ? c.remote : c.local;
    return this.support.get(Number(endpoint.slice(endpoint.lastIndexOf(':') + 1))) ?? 'none';
  }

  /** Strict mode and required authentication know no way round tcpcrypt: for them the list does not exist. */
  ignoresNegativeList(c: Pick<Connection, 'decision'>): boolean {
    return c.decision.mode === 'Strict' || c.decision.authentication === 'Required';
  }

  /** What this end found counts; what others did only for an address that has not spoken tcpcrypt with this end lately. */
  isListed(c: Pick<Connection, 'decision' | 'peer'>): boolean {
    if (this.ignoresNegativeList(c)) return false;
    if (this.negative.has(c.peer, this.now)) return true;
    return this.shared.has(c.peer, this.now) && !this.known.has(c.peer, this.now);
  }

  isFull(): boolean {
    const { maxConnections, maxSetups } = this.limits;
    return (
      this.table.size >= maxConnections ||
      this.timed.size >= maxSetups ||
      this.syns.size >= maxSetups ||
      (this.options.nearFull?.() ?? false)
    );
  }

  noteOwnNonce(nonce: Uint8Array): void {
    this.ownNonces.add(Buffer.from(nonce).toString('latin1'));
    if (this.ownNonces.size > MAX_OWN_NONCES) this.ownNonces.delete(this.ownNonces.keys().next().value!);
  }

  readonly isOwnNonce = (nonce: Uint8Array): boolean =>
    this.ownNonces.has(Buffer.from(nonce).toString('latin1'));

  // The table

  add(c: Connection): void {
    // A plain connection's entry is for the lists alone: a flood of plain SYNs fills nothing.
    if (c.phase === 'plain' && this.isFull()) return;
    const before = this.table.get(c.key);
    if (before !== undefined) this.flows.remove(before);
    this.table.set(c.key, c);
    this.flows.add(c);
  }

  remove(c: Connection): void {
    learnFromEnd(this, c);
    this.releaseHeld(c, 'drop');
    this.clearTimers(c);
    this.stopCollecting(c);
    forgetKeys(this, c);
    this.store?.delete(storeKey(c));
    if (this.table.get(c.key) !== c) return;
    this.table.delete(c.key);
    this.flows.remove(c);
  }

  rememberSyn(key: string, record: SynRecord): void {
    this.syns.delete(key);
    this.syns.set(key, record);
    this.nextAt = Math.min(this.nextAt, record.at + SYN_RECORD_MS);
  }

  checkpoint(c: Connection): void {
    c.checkpointedAt = c.txNext + c.rxNext;
    this.store?.put(storeKey(c), encode(c));
  }

  // Time

  setDeadline(c: Connection, ms: number): void {
    c.deadline = this.now + ms;
    this.nextAt = Math.min(this.nextAt, c.deadline);
    this.timed.add(c);
  }

  setRetransmit(c: Connection, ms: number): void {
    c.retransmitAt = this.now + ms;
    this.nextAt = Math.min(this.nextAt, c.retransmitAt);
    this.timed.add(c);
  }

  clearTimers(c: Connection): void {
    c.deadline = undefined;
    c.retransmitAt = undefined;
    this.timed.delete(c);
  }

  nextTimeout(): number | undefined {
    return Number.isFinite(this.nextAt) ? this.nextAt : undefined;
  }

  /** After `c.reassembly` has changed, which held `bytesBefore`. */
  noteCollecting(c: Connection, bytesBefore: number): void {
    const { bytes, expiresAt } = c.reassembly!;
    this.collectedBytes += bytes - bytesBefore;
    this.collecting.delete(c);
    if (expiresAt === undefined) {
      c.reassembly = undefined;
      return;
    }
    this.collecting.add(c);
    this.nextAt = Math.min(this.nextAt, expiresAt);
    for (const each of this.collecting) {
      if (this.collectedBytes <= this.limits.maxCollectedBytes) return;
      this.stopCollecting(each);
    }
  }

  private stopCollecting(c: Connection): void {
    if (!this.collecting.delete(c)) return;
    this.collectedBytes -= c.reassembly!.bytes;
    c.reassembly = undefined;
  }

  /** The earliest of all timers. Those set since then have lowered `nextAt`; those cleared may leave it too early. */
  private earliest(): number {
    let next = Number.POSITIVE_INFINITY;
    for (const c of this.timed) next = Math.min(next, c.deadline ?? next, c.retransmitAt ?? next);
    for (const c of this.collecting) next = Math.min(next, c.reassembly!.expiresAt!);
    const oldest = this.syns.values().next().value;
    return oldest ? Math.min(next, oldest.at + SYN_RECORD_MS) : next;
  }

  advance(now: number): void {
    this.now = now;
    for (const c of this.timed) {
      const due = Math.min(
        c.deadline ?? Number.POSITIVE_INFINITY,
        c.retransmitAt ?? Number.POSITIVE_INFINITY,
      );
      if (due > now) continue;
      if (c.active) activeTimeout(this, c);
      else passiveTimeout(this, c);
    }
    for (const c of [...this.collecting]) {
      const { bytes } = c.reassembly!;
      for (let gone = c.reassembly!.expire(now); gone > 0; gone--) this.observer.dropped('incomplete');
      this.noteCollecting(c, bytes);
    }
    for (const [key, record] of this.syns) {
      if (record.at + SYN_RECORD_MS > now) break;
      this.syns.delete(key);
    }
    this.cache.sweep(now);
    this.nextAt = this.earliest();
  }

  // Administration

  setPolicy(policy: Policy): void {
    this.policy = policy;
    this.algorithms = this.algorithmsOf(policy);
    this.answers = new Answers(this.algorithms);
    this.cache.setLimits(policy.sessionCache);
  }

  setTrustKeys(keys: readonly TrustKey[]): void {
    this.trustKeys = keys;
  }

  setAppSupport(port: number, support: AppSupport): void {
    if (support === 'none') this.support.delete(port);
    else this.support.set(port, support);
  }

  flushSessionCache(): void {
    this.cache.flush();
  }

  shareNegativeList(entries: Iterable<Listed>, now: number): Listed[] {
    this.shared.replace(entries, now);
    return this.negative.entries(now);
  }

  *connections(): IterableIterator<ConnectionInfo> {
    for (const c of this.table.values()) yield infoOf(c);
  }

  counts(): ReturnType<RewriterMachine['counts']> {
    const counts = {
      ...{ setup: 0, encrypted: 0, plain: 0 },
      cachedSessions: this.cache.size,
      sharedListings: this.shared.size,
    };
    for (const c of this.table.values()) counts[stateOf(c)]++;
    return counts;
  }

  reconcile(sockets: Iterable<SocketInfo>, now: number): void {
    this.now = now;
    reconcile(this, sockets);
  }

  restore(
    records: Iterable<readonly [string, Uint8Array]>,
    sockets: Iterable<SocketInfo>,
    now: number,
  ): number {
    this.now = now;
    return restore(this, records, sockets);
  }
}

/** What a connection without its mark is given back. */
function lostMark({ phase }: Connection): ConnectionMark {
  return phase === 'syn_sent' ? 'offered' : 'tcpcrypt';
}
