import { buildSegment, fieldsOf } from '../wire/build.ts';
import { cryptOption, layoutCompact } from '../wire/options.ts';
import { ackNumber, FIN, flagsOf, type Packet, payloadOf, RST, seqNumber } from '../wire/packet.ts';
import {
  DECLINE,
  encodeSuboptions,
  find,
  HELLO_APP_MANDATORY,
  HELLO_APP_SUPPORT,
  NEXTK1,
  NEXTK2,
  NEXTK2_APP_SUPPORT,
  PKCONF,
  PKCONF_APP_SUPPORT,
  parseSpecifiers,
  type Suboption,
  SYNCOOKIE,
} from '../wire/suboptions.ts';
import { sendInit1 } from './c-mode.ts';
import { Connection } from './connection.ts';
import { becomeEncryptedFromCache, becomePlain, dropChain, resumable } from './lifecycle.ts';
import { refuse } from './plain.ts';
import type { Rewriter } from './rewriter.ts';
import { bodyOf, copyOf, goodbye, has, headersOf, type SetupView, viewOf } from './setup.ts';
import type { FallbackReason } from './types.ts';

/**
 * A SYN repeated sooner than this was not lost: Linux waits a second, but repeats at once when a stray segment
 * comes (an answer to it, RFC 9293 section 3.10.7.3), which a blind sender can bring about.
 */
const SYN_TIMEOUT_MS = 900;

/** The kernel opens a connection, or repeats its SYN. */
export function sendSyn(rw: Rewriter, c: Connection | undefined, p: Packet, token: number): void {
  if (c?.active && seqNumber(p) === c.isnLocal) return repeatSyn(rw, c, p, token);
  if (c) rw.remove(c);
  const fresh = new Connection(rw.identify(p, 'out', true), 'syn_sent');
  fresh.isnLocal = seqNumber(p);
  const { options, hasMac } = viewOf(rw, p);
  const incompatible = options === undefined ? 'malformed' : options.incompatible;
  const why = rw.passedBy && !c ? 'bypassed' : whyNotOffered(rw, fresh, p, incompatible);
  if (why || !options || hasMac) return decideAtSyn(rw, fresh, p, token, why ?? 'malformed');
  fresh.template = headersOf(p);
  fresh.mssLocal = options.mss ?? 536;
  fresh.maxSegmentBytes = 20 + fresh.mssLocal;
  rw.noteLinkMss(p, fresh.mssLocal);

  const list: Suboption[] = [];
  const support = rw.appSupport(fresh);
  if (support !== 'none') {
    list.push({
      opcode: support === 'mandatory' ? HELLO_APP_MANDATORY : HELLO_APP_SUPPORT,
      data: new Uint8Array(0),
    });
  }
  fresh.resume = resumable(rw, fresh);
  if (fresh.resume) list.push({ opcode: NEXTK1, data: fresh.resume.sid.subarray(0, 9) });
  fresh.synBody = encodeSuboptions(list);
  const offer = withCrypt(rw, p, fresh.synBody);
  if (!offer) {
    dropChain(rw, fresh);
    return decideAtSyn(rw, fresh, p, token, 'no_option_space');
  }
  rw.add(fresh);
  rw.setDeadline(fresh, rw.timers.setupIdleMs);
  rw.pass(token, offer, 'offered');
}

function whyNotOffered(
  rw: Rewriter,
  c: Connection,
  p: Packet,
  incompatible: string | undefined,
): FallbackReason | undefined {
  if (c.decision.mode === 'Disabled') return 'policy';
  if (incompatible === 'malformed') return 'malformed';
  if (incompatible || payloadOf(p).length > 0 || flagsOf(p) & (FIN | RST)) return 'incompatible_option';
  if (rw.isListed(c)) return 'negative_list';
  if (rw.isFull()) return 'resource_limit';
  return undefined;
}

/** The SYN leaves as it is and nothing of ours went over the wire: plain at once. */
function decideAtSyn(rw: Rewriter, c: Connection, p: Packet, token: number, why: FallbackReason): void {
  if (c.decision.mode === 'Strict') return refuse(rw, c, p, token, 'out', why);
  becomePlain(rw, c, why);
  c.finished = true;
  rw.add(c);
  rw.pass(token, undefined, 'plain');
}

function withCrypt(rw: Rewriter, p: Packet, body: Uint8Array): Packet | undefined {
  const { options } = viewOf(rw, p);
  const laid = options && layoutCompact([...options.items, cryptOption(body, rw.encodings)]);
  return laid && buildSegment(p, { ...fieldsOf(p), options: laid });
}

/**
 * A SYN that was lost may have been dropped for its option: the first repetition goes without, unless the
 * destination has spoken tcpcrypt lately. A SYN with NEXTK1 is always the same.
 */
function repeatSyn(rw: Rewriter, c: Connection, p: Packet, token: number): void {
  if (c.phase === 'plain') return rw.pass(token, undefined, c.finished ? 'plain' : 'offered');
  const soon = rw.now - c.synAt < SYN_TIMEOUT_MS;
  c.synAt = rw.now;
  const keep = soon || c.resume || c.decision.mode === 'Strict' || rw.known.has(c.peer, rw.now);
  if (!c.plainSyn && (keep || c.phase !== 'syn_sent')) {
    return rw.pass(token, withCrypt(rw, p, c.synBody), c.phase === 'syn_sent' ? 'offered' : undefined);
  }
  c.plainSyn ??= { tsVal: viewOf(rw, p).options?.timestamps?.val };
  rw.pass(token, undefined, 'offered');
}

/** A SYN-ACK for a connection that our kernel opens. */
export function receiveSynAck(rw: Rewriter, c: Connection, p: Packet, token: number): void {
  if (ackNumber(p) !== (c.isnLocal + 1) >>> 0) {
    return rw.pass(token, rw.withoutOurOptions(p), c.phase === 'syn_sent' ? 'offered' : undefined);
  }
  if (c.phase === 'c_mode') return repeatedSynAck(rw, c, p, token);
  if (c.phase === 'plain') return rw.pass(token, rw.withoutOurOptions(p), c.finished ? 'plain' : 'tcpcrypt');
  const view = viewOf(rw, p);
  c.isnRemote = seqNumber(p);
  c.mssRemote = view.options?.mss ?? 536;
  c.tsEcho = view.options?.timestamps?.val ?? 0;

  const why = whyNotAgreed(rw, c, view);
  if (why) {
    dropChain(rw, c);
    if (c.decision.mode === 'Strict') return refuse(rw, c, p, token, 'in', why);
    if (view.unknownMandatory.length) c.goodbye = encodeSuboptions(goodbye(view.unknownMandatory));
    becomePlain(rw, c, why);
    c.finished = !c.goodbye && !has(view.crypt, PKCONF) && !has(view.crypt, PKCONF_APP_SUPPORT);
    return rw.pass(token, rw.withoutOurOptions(p), c.finished ? 'plain' : 'tcpcrypt');
  }
  c.synAckBody = bodyOf(view);
  const resumed = find(view.crypt!, NEXTK2) ?? find(view.crypt!, NEXTK2_APP_SUPPORT);
  if (resumed) {
    c.peerAppSupport = resumed.opcode === NEXTK2_APP_SUPPORT;
    becomeEncryptedFromCache(rw, c);
  } else {
    // The peer does not know the SID: the chain is of no more use.
    dropChain(rw, c);
    c.phase = 'c_mode';
    c.ackCookie = find(view.crypt!, SYNCOOKIE)?.data && copyOf(find(view.crypt!, SYNCOOKIE)!.data);
    c.peerAppSupport = has(view.crypt, PKCONF_APP_SUPPORT);
  }
  rw.pass(token, rw.withoutOurOptions(p, rw.clampMss(p, c.mssRemote, c.mssLocal)), 'tcpcrypt');
}

function whyNotAgreed(rw: Rewriter, c: Connection, view: SetupView): FallbackReason | undefined {
  if (c.plainSyn) return synTimeout(rw, c, view);
  if (view.malformed) return 'malformed';
  if (!view.crypt) return rw.known.has(c.peer, rw.now) ? 'options_stripped' : 'peer_unsupported';
  if (has(view.crypt, DECLINE) || view.unknownMandatory.length) return 'declined';
  if (has(view.crypt, NEXTK2) || has(view.crypt, NEXTK2_APP_SUPPORT))
    return c.resume ? undefined : 'declined';
  const pkconf = find(view.crypt, PKCONF) ?? find(view.crypt, PKCONF_APP_SUPPORT);
  if (!pkconf) return 'declined';
  if (rw.appSupport(c) === 'mandatory' && pkconf.opcode === PKCONF) return 'declined';
  const offered = parseSpecifiers(pkconf.data);
  if (offered === 'malformed') return 'malformed';
  c.offered = offered;
  return undefined;
}

/** The SYN without CRYPT was answered. If the one with it was not, the path may be to blame. */
function synTimeout(rw: Rewriter, c: Connection, view: SetupView): FallbackReason {
  const echoed = view.options?.timestamps?.ecr;
  const answersPlain = !view.crypt && (echoed === undefined || echoed === c.plainSyn!.tsVal);
  if (answersPlain && !rw.ignoresNegativeList(c)) rw.negative.synTimeout(c.peer, rw.now);
  return 'syn_timeout';
}

/** The kernel may have lost the SYN-ACK, or the peer our answer to it. */
function repeatedSynAck(rw: Rewriter, c: Connection, p: Packet, token: number): void {
  if (seqNumber(p) !== c.isnRemote) return rw.drop(token, 'other_isn');
  if (!c.initiation) return rw.pass(token, rw.withoutOurOptions(p, rw.clampMss(p, c.mssRemote, c.mssLocal)));
  sendInit1(rw, c);
  if (rw.isMarked) rw.drop(token, 'repeated_syn_ack');
  else rw.pass(token, rw.withoutOurOptions(p, rw.clampMss(p, c.mssRemote, c.mssLocal)));
}
