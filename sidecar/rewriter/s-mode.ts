/** The passive opener after its SYN-ACK: INIT1 answered by INIT2, the first valid MAC. wire.md section 4. */
import { answer } from '../protocol/handshake.ts';
import { buildSegment, fieldsOf } from '../wire/build.ts';
import { layoutLinux } from '../wire/options.ts';
import {
  ACK,
  ackNumber,
  FIN,
  flagsOf,
  type Packet,
  PSH,
  payloadOf,
  RST,
  seqNumber,
  URG,
} from '../wire/packet.ts';
import { DECLINE, encodeSuboptions, INIT1, INIT2, type Suboption } from '../wire/suboptions.ts';
import { collect } from './collect.ts';
import type { Connection } from './connection.ts';
import { deliver, noteKernelSegment, open, receiveEncrypted } from './encrypting.ts';
import { confirmEncryption, endInSetup, noteVerified, prepareEncryption, resetBoth } from './lifecycle.ts';
import { extend, seqAt } from './offsets.ts';
import { fallBack, isInitData, receivePlain } from './plain.ts';
import type { Rewriter } from './rewriter.ts';
import { sealOwn } from './seal.ts';
import {
  arrivalOf,
  copyOf,
  goodbye,
  has,
  initOptionBytes,
  ownSegment,
  type SetupView,
  viewOf,
} from './setup.ts';

const NO_DATA = new Uint8Array(0);

/** Settles our ISN by the first segment that acknowledges one of our SYN-ACKs exactly. */
export function settleIsn(c: Connection, p: Packet): void {
  if (c.isnCandidates.length < 2 || !(flagsOf(p) & ACK)) return;
  const isn = (ackNumber(p) - 1) >>> 0;
  if (c.isnCandidates.includes(isn)) c.isnLocal = isn;
}

/** `listen` and `s_mode`: what our kernel sends before the first valid MAC waits. */
export function sendInSetup(rw: Rewriter, c: Connection, p: Packet, token: number): void {
  const flags = flagsOf(p);
  if (flags & RST) {
    // C may have taken INIT2 by now: for it the same once more, as it would leave then.
    if (c.phase === 's_mode') rw.toNetwork(sealOwn(rw, c, [], flags));
    return endInSetup(rw, c, p, token);
  }
  const { options } = viewOf(rw, p);
  if (!options) return rw.drop(token, 'kernel_options');
  noteKernelSegment(c, p, options);
  if (payloadOf(p).length === 0 && !(flags & FIN)) return rw.drop(token, 'withheld_ack');
  rw.hold(c, p, token);
}

/** `listen`: the first segment after the SYN-ACK decides. */
export function receiveInListen(rw: Rewriter, c: Connection, p: Packet, token: number): void {
  settleIsn(c, p);
  const arrival = arrivalOf(c, p);
  if (arrival === 'ignore') return rw.drop(token, 'setup_numbers');
  if (arrival === 'reset') return endInSetup(rw, c, p, token);
  const view = viewOf(rw, p);
  if (has(view.crypt, INIT1)) {
    if (flagsOf(p) & (FIN | URG) || arrival.offset !== 1) return rw.drop(token, 'malformed_init');
    return receiveInit1(rw, c, p, view, token);
  }
  if (view.hasMac) return rw.drop(token, 'early');
  if (!view.crypt && isInitData(c, p, arrival.offset)) return rw.drop(token, 'stripped_init');
  if (payloadOf(p).length > 0 && arrival.offset > 1) return rw.drop(token, 'before_first_byte');
  if (view.unknownMandatory.length) c.goodbye = encodeSuboptions(goodbye(view.unknownMandatory));
  fallBack(rw, c, has(view.crypt, DECLINE) ? 'declined' : 'options_stripped');
  receivePlain(rw, c, p, token);
}

/** The packet that carried an INIT, as the bare ACK that it is to our kernel. */
export function bareAck(rw: Rewriter, c: Connection, p: Packet): Packet {
  const { options } = viewOf(rw, p);
  return buildSegment(p, {
    ...fieldsOf(p),
    seq: seqAt(c.isnRemote, 1),
    ack: seqAt(c.isnLocal, 1),
    flags: ACK,
    urgent: 0,
    options: (options && layoutLinux(options.items)) ?? NO_DATA,
    payload: NO_DATA,
  });
}

function receiveInit1(rw: Rewriter, c: Connection, p: Packet, view: SetupView, token: number): void {
  const init1 = copyOf(payloadOf(p));
  if (view.options?.timestamps) c.tsEcho = view.options.timestamps.val;
  const room = Math.min(c.mssLocal, c.mssRemote) - initOptionBytes(c, initSuboptions);
  const result = answer(rw.means(), init1, c, {
    offered: c.offered,
    authenticationRequired: c.decision.authentication === 'Required',
    isOwnNonce: rw.isOwnNonce,
  });
  c.initSeen = init1;
  const tooLong = typeof result === 'object' && result.init2.length > room;
  if (typeof result === 'string' || tooLong) {
    if (typeof result === 'object') result.session.secret.fill(0);
    if (result === 'unauthenticated' || c.decision.mode === 'Strict') {
      rw.drop(token, 'unacceptable_init');
      return resetBoth(rw, c, result === 'unauthenticated' ? 'policy' : 'no_common_algorithm');
    }
    c.declined = true;
    rw.toNetwork(ownSegment(c, rw, goodbye([])));
    fallBack(rw, c, result === 'malformed' ? 'malformed' : 'no_common_algorithm');
    return rw.pass(token, bareAck(rw, c, p));
  }
  c.phase = 's_mode';
  c.initSent = result.init2;
  c.txDelta = result.init2.length;
  c.rxDelta = init1.length;
  c.retransmitMs = rw.timers.initRetransmitMs;
  prepareEncryption(rw, c, result.session);
  rw.pass(token, bareAck(rw, c, p));
  sendInit2(rw, c);
}

const initSuboptions: Suboption[] = [{ opcode: INIT2, data: NO_DATA }];

/** INIT2, always the same bytes. It acknowledges INIT1, which took sequence space. */
function repeatInit2(rw: Rewriter, c: Connection): void {
  const segment = ownSegment(c, rw, initSuboptions, c.initSent, ACK | PSH);
  if (segment)
    rw.toNetwork(buildSegment(segment, { ...fieldsOf(segment), ack: seqAt(c.isnRemote, 1 + c.rxDelta) }));
}

function sendInit2(rw: Rewriter, c: Connection): void {
  repeatInit2(rw, c);
  rw.setRetransmit(c, c.retransmitMs);
  c.retransmitMs = Math.min(c.retransmitMs * 2, 30_000);
}

/** Own timers of `listen` and `s_mode`. */
export function passiveTimeout(rw: Rewriter, c: Connection): void {
  if (c.deadline !== undefined && rw.now >= c.deadline) {
    // Nothing came for so long: INIT2 is repeated no more. The state ends when the socket does, not before.
    rw.clearTimers(c);
    return rw.releaseHeld(c, 'drop');
  }
  if (c.phase === 's_mode' && c.retransmitAt !== undefined && rw.now >= c.retransmitAt) sendInit2(rw, c);
}

/** `s_mode`: the first segment with a valid MAC binds us; one with neither option says that C went plain. */
export function receiveInSMode(rw: Rewriter, c: Connection, p: Packet, token: number): void {
  const view = viewOf(rw, p);
  if (view.hasMac) {
    const whole = collect(rw, c, p, token);
    if (!whole) return;
    const verified = open(rw, c, whole);
    if (!verified) return rw.drop(token, 'mac');
    c.phase = 'encrypting';
    c.endSetup();
    c.retransmitAt = undefined;
    noteVerified(rw, c);
    confirmEncryption(rw, c);
    deliver(rw, c, whole, verified, token);
    return rw.releaseHeld(c, 'send');
  }
  const arrival = arrivalOf(c, p);
  if (arrival === 'ignore') return rw.drop(token, 'setup_numbers');
  if (arrival === 'reset') return endInSetup(rw, c, p, token);
  if (has(view.crypt, INIT1)) return repeatedInit1(rw, c, p, token);
  if (arrival.ackOffset > 1 || isInitData(c, p, arrival.offset)) return rw.drop(token, 'stripped_init');
  if (payloadOf(p).length > 0 && arrival.offset > 1) return rw.drop(token, 'before_first_byte');
  if (view.crypt && !has(view.crypt, DECLINE)) return rw.drop(token, 'early');
  fallBack(rw, c, has(view.crypt, DECLINE) ? 'declined' : 'options_stripped');
  receivePlain(rw, c, p, token);
}

/** Our INIT2 was lost, or the ACK that our kernel's accept queue had no place for. */
function repeatedInit1(rw: Rewriter, c: Connection, p: Packet, token: number): void {
  const same = extend(seqNumber(p), c.isnRemote, 1) === 1 && Buffer.compare(payloadOf(p), c.initSeen!) === 0;
  if (!same) return rw.drop(token, 'other_init');
  repeatInit2(rw, c);
  rw.pass(token, bareAck(rw, c, p));
}

/** ENCRYPTING as S: as any, but C's INIT1 may still be repeated, and our ISN may still be open. */
export function receiveEncryptedPassive(rw: Rewriter, c: Connection, p: Packet, token: number): void {
  if (!c.verified) settleIsn(c, p);
  if (c.txDelta > 0 && has(viewOf(rw, p).crypt, INIT1) && !viewOf(rw, p).hasMac) {
    return rw.drop(token, 'repeated_init');
  }
  receiveEncrypted(rw, c, p, token);
}
