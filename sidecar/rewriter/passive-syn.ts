import type { Algorithms } from '../protocol/handshake.ts';
import type { CachedSession } from '../protocol/session-cache.ts';
import { buildSegment, fieldsOf } from '../wire/build.ts';
import { cryptOption, layoutCompact } from '../wire/options.ts';
import {
  ackNumber,
  FIN,
  flagsOf,
  type Packet,
  payloadOf,
  RST,
  seqNumber,
  TCP_HEADER_BYTES,
  windowOf,
} from '../wire/packet.ts';
import {
  DECLINE,
  encodeSpecifiers,
  encodeSuboptions,
  find,
  HELLO_APP_MANDATORY,
  HELLO_APP_SUPPORT,
  NEXTK1,
  NEXTK2,
  NEXTK2_APP_SUPPORT,
  PKCONF,
  PKCONF_APP_SUPPORT,
} from '../wire/suboptions.ts';
import { Connection } from './connection.ts';
import { OVERHEAD_BYTES } from './icmp.ts';
import { acceptResumption, becomeEncryptedFromCache, becomePlain, resetBoth } from './lifecycle.ts';
import { refuse } from './plain.ts';
import type { Rewriter } from './rewriter.ts';
import { bodyOf, has, headersOf, type SetupView, viewOf } from './setup.ts';
import type { FallbackReason } from './types.ts';

/** A SYN with CRYPT that the kernel has not answered yet, or has answered without a segment following. */
export interface SynRecord {
  readonly isn: number;
  /** The last SYN of this number had CRYPT: its SYN-ACK gets PKCONF or NEXTK2. */
  offered: boolean;
  readonly body: Uint8Array;
  readonly at: number;
  readonly mss: number;
  /** What our kernel was told instead. */
  readonly clampedMss: number;
  readonly peerAppSupport: boolean;
  resume: CachedSession | undefined;
  /** Its SYN-ACK with NEXTK2 has left. */
  spent?: boolean;
  /** What the SYN-ACK says; made once, for it is always the same bytes. */
  answerBody: Uint8Array;
  /** Algorithms that it offers. */
  specifiers: readonly number[];
}

const NO_DATA = new Uint8Array(0);
const MAX_SPECIFIERS = 4;

/** What SYN-ACKs say under one policy; each body is made once, for all connections. */
export class Answers {
  readonly specifiers: readonly number[];
  private readonly bodies = new Map<number, Uint8Array>();

  constructor({ keyExchanges }: Algorithms) {
    this.specifiers = keyExchanges.slice(0, MAX_SPECIFIERS);
  }

  /** The body of a CRYPT option with this suboption; PKCONF, with support of the application or not, has the specifiers. */
  body(opcode: number): Uint8Array {
    const made = this.bodies.get(opcode);
    if (made) return made;
    const names = opcode === PKCONF || opcode === PKCONF_APP_SUPPORT;
    const body = encodeSuboptions([{ opcode, data: names ? encodeSpecifiers(this.specifiers) : NO_DATA }]);
    this.bodies.set(opcode, body);
    return body;
  }
}

/** A SYN for our kernel, of a connection that is not encrypted. */
export function receiveSyn(rw: Rewriter, c: Connection | undefined, p: Packet, token: number): void {
  if (c?.active && c.phase === 'syn_sent') {
    if (c.decision.mode === 'Strict') {
      rw.drop(token, 'refused');
      return resetBoth(rw, c, 'simultaneous_open');
    }
    becomePlain(rw, c, 'simultaneous_open');
    c.finished = true;
    return rw.pass(token, rw.withoutOurOptions(p), 'plain');
  }
  // The same, of one that we never offered.
  if (c?.active && c.phase === 'plain' && c.isnRemote === 0)
    return rw.pass(token, rw.withoutOurOptions(p), 'plain');
  const identity = rw.identify(p, 'in', false);
  const view = viewOf(rw, p);
  // A connection that has left SYN-SENT is marked already; a SYN for it decides nothing.
  const offered = c && !c.finished ? undefined : 'offered';
  const known = rw.syns.get(identity.key);
  if (known && known.isn === seqNumber(p)) {
    // Another offer under the same number is not mixed with the first.
    known.offered = !!view.crypt && Buffer.compare(bodyOf(view), known.body) === 0;
    if (!known.offered && known.resume) refuseResumption(rw, known);
    return rw.pass(token, rw.withoutOurOptions(p, known.clampedMss), offered);
  }
  const offers = view.crypt && !c && rw.passedBy;
  const why = offers ? 'bypassed' : whyNotAccepted(rw, identity.peer, identity.decision.mode, p, view);
  if (why) {
    if (c && (c.phase !== 'plain' || identity.decision.mode !== 'Strict')) {
      return rw.pass(token, rw.withoutOurOptions(p), c.finished ? 'plain' : undefined);
    }
    const fresh = new Connection(identity, 'plain');
    if (identity.decision.mode === 'Strict') return refuse(rw, fresh, p, token, 'in', why);
    rw.syns.delete(identity.key);
    becomePlain(rw, fresh, why);
    fresh.finished = true;
    rw.add(fresh);
    return rw.pass(token, rw.withoutOurOptions(p), 'plain');
  }
  const record = acceptSyn(rw, p, view, identity);
  rw.rememberSyn(identity.key, record);
  rw.pass(token, rw.withoutOurOptions(p, record.clampedMss), offered);
}

function whyNotAccepted(
  rw: Rewriter,
  peer: string,
  mode: string,
  p: Packet,
  view: SetupView,
): FallbackReason | undefined {
  if (!view.options || view.malformed) return 'malformed';
  if (view.options.crypt.length === 0)
    return rw.known.has(peer, rw.now) ? 'options_stripped' : 'peer_unsupported';
  if (mode === 'Disabled') return 'policy';
  if (view.options.incompatible || payloadOf(p).length > 0 || flagsOf(p) & (FIN | RST))
    return 'incompatible_option';
  if (has(view.crypt, DECLINE) || view.unknownMandatory.length) return 'declined';
  if (rw.isFull()) return 'resource_limit';
  return undefined;
}

function acceptSyn(
  rw: Rewriter,
  p: Packet,
  view: SetupView,
  identity: ReturnType<Rewriter['identify']>,
): SynRecord {
  const mss = view.options!.mss ?? 536;
  const peerAppSupport = has(view.crypt, HELLO_APP_SUPPORT) || has(view.crypt, HELLO_APP_MANDATORY);
  const support = rw.appSupport(identity);
  const nextk1 = find(view.crypt!, NEXTK1);
  const resume = nextk1 && acceptResumption(rw, nextk1.data, identity);
  const specifiers = rw.answers.specifiers;
  // The draft's section 6: an application that requires a tcpcrypt-aware peer makes any other connection plain.
  const refused =
    (has(view.crypt, HELLO_APP_MANDATORY) && support === 'none') ||
    (support === 'mandatory' && !peerAppSupport);
  let opcode = support === 'none' ? PKCONF : PKCONF_APP_SUPPORT;
  if (refused) opcode = DECLINE;
  else if (resume) opcode = support === 'none' ? NEXTK2 : NEXTK2_APP_SUPPORT;
  return {
    isn: seqNumber(p),
    offered: true,
    body: bodyOf(view),
    at: rw.now,
    mss,
    clampedMss: rw.clampMss(p, mss),
    peerAppSupport,
    resume: refused ? undefined : resume,
    answerBody: rw.answers.body(opcode),
    specifiers: refused ? [] : specifiers,
  };
}

/** The peer's SYN may have gone by without CRYPT: then it may already be plain, and NEXTK2 would bind us alone. */
function refuseResumption(rw: Rewriter, record: SynRecord): void {
  record.resume!.secret.fill(0);
  record.resume = undefined;
  record.specifiers = rw.answers.specifiers;
  record.answerBody = rw.answers.body(PKCONF);
}

/** Our kernel answers a SYN. */
export function sendSynAck(rw: Rewriter, c: Connection | undefined, p: Packet, token: number): void {
  if (c?.active && c.phase !== 'encrypting')
    return rw.pass(token, undefined, c.finished ? 'plain' : undefined);
  const identity = rw.identify(p, 'out', false);
  const isnRemote = (ackNumber(p) - 1) >>> 0;
  const record = rw.syns.get(identity.key);
  const { options } = viewOf(rw, p);
  const withBody = (body: Uint8Array) =>
    options && layoutCompact([...options.items, cryptOption(body, rw.encodings)]);
  if (c && !c.active && c.isnRemote === isnRemote && c.synAckBody.length > 0) {
    // Repeated: the same bytes as at first, whatever SYNs have come since; without, where the SYN came without.
    noteIsn(c, seqNumber(p));
    const twin = c.phase === 'listen' && record?.isn === isnRemote && !record.offered;
    const again = twin ? undefined : withBody(c.synAckBody);
    return rw.pass(
      token,
      again && buildSegment(p, { ...fieldsOf(p), options: again }),
      c.finished ? 'plain' : 'tcpcrypt',
    );
  }
  if (record?.isn !== isnRemote) return answersPlainSyn(rw, c, identity, isnRemote, p, token);
  // NEXTK2 was said, and its connection is gone: the peer may be bound, and plain would give it ciphertext.
  if (record.spent) return rw.drop(token, 'session_spent');
  if (!record.offered) return rw.pass(token, undefined, 'offered');
  const laid = withBody(record.answerBody);
  if (c) rw.remove(c);
  const fresh = new Connection({ ...identity, openedAt: record.at }, 'listen');
  fresh.isnRemote = record.isn;
  fresh.isnLocal = seqNumber(p);
  rw.add(fresh);
  if (!options || !laid || record.specifiers.length === 0) {
    const why = laid ? 'declined' : 'no_option_space';
    record.resume?.secret.fill(0);
    record.offered = !!laid;
    if (fresh.decision.mode === 'Strict') return refuse(rw, fresh, p, token, 'out', why);
    becomePlain(rw, fresh, why);
    fresh.finished = true;
    return rw.pass(token, laid && buildSegment(p, { ...fieldsOf(p), options: laid }), 'plain');
  }
  fresh.template = headersOf(p);
  fresh.mssLocal = options.mss ?? 536;
  fresh.mssRemote = record.mss;
  const most = Math.min(fresh.mssLocal, record.mss);
  fresh.maxSegmentBytes = TCP_HEADER_BYTES + most;
  const added = options.timestamps ? OVERHEAD_BYTES.timestamps : OVERHEAD_BYTES.none;
  fresh.cutsHere = Math.min(fresh.mssLocal, record.clampedMss) + added > most;
  rw.noteLinkMss(p, fresh.mssLocal);
  // A SYN-ACK's window is not scaled yet; segments of our own have to say it as later ones do.
  fresh.window = Math.max(1, windowOf(p) >> (options.windowScale ?? 0));
  fresh.tsVal = options.timestamps?.val;
  fresh.offered = record.specifiers;
  fresh.synBody = record.body;
  fresh.synAckBody = record.answerBody;
  fresh.peerAppSupport = record.peerAppSupport;
  fresh.resume = record.resume;
  record.resume = undefined;
  if (fresh.resume) {
    record.spent = true;
    becomeEncryptedFromCache(rw, fresh);
  }
  // With a SYN cookie there is no socket yet; until something verifies, the timer keeps the state.
  rw.setDeadline(fresh, rw.timers.setupIdleMs);
  rw.pass(token, buildSegment(p, { ...fieldsOf(p), options: laid }), 'tcpcrypt');
}

/** The SYN that the kernel answers had no CRYPT. If it is not the present connection's, that one is over. */
function answersPlainSyn(
  rw: Rewriter,
  c: Connection | undefined,
  identity: ReturnType<Rewriter['identify']>,
  isnRemote: number,
  p: Packet,
  token: number,
): void {
  if (!c && identity.decision.mode === 'Strict') {
    // Its SYN went by while we were away.
    return refuse(rw, new Connection(identity, 'plain'), p, token, 'out', 'bypassed');
  }
  if (!c || c.finished) return rw.pass(token, undefined, 'plain');
  if (c.phase === 'plain' || c.isnRemote === isnRemote) return rw.pass(token);
  rw.remove(c);
  const fresh = new Connection(identity, 'plain');
  if (fresh.decision.mode === 'Strict') return refuse(rw, fresh, p, token, 'out', 'peer_unsupported');
  rw.add(fresh);
  becomePlain(rw, fresh, 'peer_unsupported');
  fresh.finished = true;
  rw.pass(token, undefined, 'plain');
}

/** With SYN cookies each SYN-ACK may have an ISN of its own; the first segment's ACK tells which counts. */
function noteIsn(c: Connection, isn: number): void {
  const known = c.isnCandidates.length === 0 ? [c.isnLocal] : c.isnCandidates;
  if (!known.includes(isn)) c.isnCandidates = [isn, ...known].slice(0, 4);
}
