/** The connection table's entry: plain data, and what may be in it in which phase. */
import type { Generations } from '../protocol/generations.ts';
import type { Initiation } from '../protocol/handshake.ts';
import type { PathMtu } from '../protocol/path-mtus.ts';
import type { Reassembly } from '../protocol/reassembly.ts';
import type { CachedSession } from '../protocol/session-cache.ts';
import { SuperSegmentSize } from '../protocol/super-segment-size.ts';
import type { Packet } from '../wire/packet.ts';
import type { Decision, FallbackReason, Role } from './types.ts';

/**
 * - `syn_sent`: our SYN with CRYPT went out (the draft's HELLO-SENT and NEXTK-SENT)
 * - `c_mode`: the PKCONF came; INIT1 goes out as soon as the kernel has acknowledged
 * - `listen`: our SYN-ACK with PKCONF went out; the first segment decides (S-MODE)
 * - `s_mode`: INIT1 accepted, INIT2 sent; no segment with a valid MAC yet (ENCRYPTING, not yet bound)
 * - `encrypting`: bound
 * - `plain`: DISABLED
 */
export type Phase = 'syn_sent' | 'c_mode' | 'listen' | 's_mode' | 'encrypting' | 'plain';

/** Algorithms and identity of an encrypted connection, and of its session. */
export interface Secured {
  readonly generations: Generations;
  readonly sessionRole: Role;
  readonly sessionId: Uint8Array;
  readonly keyExchange: number;
  readonly suite: number;
  /** Whether one MAC covers a super-segment (wire.md section 6). */
  readonly aggregate: boolean;
  readonly authenticated: boolean;
  readonly keyId: string | undefined;
  readonly handshake: 'full' | 'cached';
}

/** A packet from our kernel whose verdict waits. */
export interface Held {
  readonly token: number;
  readonly packet: Packet;
  readonly superSegment: boolean;
}

export interface Connection {
  readonly key: string;
  readonly local: string;
  readonly remote: string;
  /** The remote address alone, as text: key of the session cache and the lists. */
  readonly peer: string;
  readonly active: boolean;
  readonly decision: Decision;
  readonly openedAt: number;
  phase: Phase;
  reason: FallbackReason | undefined;
  /** Reported to the observer already. */
  decided: boolean;

  /** ISN of our stream. Passive, before the first segment: the newest of `isnCandidates` (SYN cookies). */
  isnLocal: number;
  isnCandidates: number[];
  isnRemote: number;
  txDelta: number;
  rxDelta: number;
  /** Wire offsets: the first byte we have not sent, the first the peer has not acknowledged, the first not seen. */
  txNext: number;
  txAcked: number;
  rxNext: number;
  /** Most TCP header and data that a segment of ours may have on the wire. */
  maxSegmentBytes: number;
  /** Our kernel's segments may be larger with what we add: they are cut here, and come one by one for that. */
  cutsHere: boolean;
  /** What ICMP errors said of the path, while it holds. */
  path: PathMtu | undefined;

  /** Bodies of both SYNs' CRYPT options, the same bytes at each repetition. */
  synBody: Uint8Array;
  synAckBody: Uint8Array;
  /** MSS options of both SYNs as they were on the wire. */
  mssLocal: number;
  mssRemote: number;
  /** What our PKCONF offered, or a peer's. */
  offered: readonly number[];
  /** A SYN of ours left without CRYPT, at this TSval: the connection stays plain. */
  plainSyn: { readonly tsVal: number | undefined } | undefined;
  /** When our kernel last sent its SYN. */
  synAt: number;
  resume: CachedSession | undefined;
  ackCookie: Uint8Array | undefined;

  /** A header of our kernel's, and what of the last one a segment of the rewriter's own repeats. */
  template: Packet | undefined;
  window: number;
  tsVal: number | undefined;
  tsEcho: number;
  /** Kernel offset of the peer's stream that our kernel has acknowledged. */
  kernelAck: number;
  /** Our kernel has sent a segment without SYN. */
  kernelAcked: boolean;

  initiation: Initiation | undefined;
  /** INIT bytes that we sent, and that we saw from the peer. */
  initSent: Uint8Array | undefined;
  initSeen: Uint8Array | undefined;
  retransmitAt: number | undefined;
  retransmitMs: number;
  deadline: number | undefined;
  held: Held[];

  /** DECLINE, and perhaps UNKNOWN, that our next segment carries. */
  goodbye: Uint8Array | undefined;
  declined: boolean;
  /** After a fallback: see `plain.ts`. */
  plainNext: number;
  peerPlainSeen: boolean;
  finished: boolean;

  secured: Secured | undefined;
  readonly superSegmentSize: SuperSegmentSize;
  /** While super-segments of the peer's are incomplete. */
  reassembly: Reassembly | undefined;
  /** Chain of session secrets that this connection extended or used. */
  chain: object | undefined;
  verified: boolean;
  peerAppSupport: boolean;
  lastSyncClock: number | undefined;
  checkpointedAt: number;
  generationSince: number;
  bytesIn: number;
  bytesOut: number;
  /** Successive reconciliations that did not find the socket. */
  missing: number;
  icmpQuotedInit: boolean;
  /** Its socket takes packets of one interface only. */
  boundToInterface: boolean;
}

/** Whether super-segments of a bound connection's come, and leave, as the kernel has them. */
export function comeWhole(c: Connection): boolean {
  return c.secured!.aggregate && c.superSegmentSize.whole && !c.cutsHere && c.path === undefined;
}

export function newConnection(
  identity: Pick<Connection, 'key' | 'local' | 'remote' | 'peer' | 'active' | 'decision' | 'openedAt'>,
  phase: Phase,
): Connection {
  return {
    ...identity,
    phase,
    reason: undefined,
    decided: false,
    isnLocal: 0,
    isnCandidates: [],
    isnRemote: 0,
    txDelta: 0,
    rxDelta: 0,
    txNext: 1,
    txAcked: 1,
    rxNext: 1,
    maxSegmentBytes: 65535,
    cutsHere: false,
    path: undefined,
    synBody: new Uint8Array(0),
    synAckBody: new Uint8Array(0),
    mssLocal: 536,
    mssRemote: 536,
    offered: [],
    plainSyn: undefined,
    synAt: identity.openedAt,
    resume: undefined,
    ackCookie: undefined,
    template: undefined,
    window: 0,
    tsVal: undefined,
    tsEcho: 0,
    kernelAck: 1,
    kernelAcked: false,
    initiation: undefined,
    initSent: undefined,
    initSeen: undefined,
    retransmitAt: undefined,
    retransmitMs: 0,
    deadline: undefined,
    held: [],
    goodbye: undefined,
    declined: false,
    plainNext: 1,
    peerPlainSeen: false,
    finished: false,
    secured: undefined,
    superSegmentSize: new SuperSegmentSize(),
    reassembly: undefined,
    chain: undefined,
    verified: false,
    peerAppSupport: false,
    lastSyncClock: undefined,
    checkpointedAt: 0,
    generationSince: identity.openedAt,
    bytesIn: 0,
    bytesOut: 0,
    missing: 0,
    icmpQuotedInit: false,
    boundToInterface: false,
  };
}
