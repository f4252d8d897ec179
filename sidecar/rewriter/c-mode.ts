/** C-MODE: INIT1 sent and repeated, INIT2 awaited. wire.md section 4, "Agreeing" and "Falling back". */
import { chooseKeyExchange, complete, initiate } from '../protocol/handshake.ts';
import { ACK, FIN, flagsOf, type Packet, PSH, payloadOf, RST, SYN, URG } from '../wire/packet.ts';
import { ACKCOOKIE, DECLINE, encodeSuboptions, INIT1, INIT2, type Suboption } from '../wire/suboptions.ts';
import type { Connection } from './connection.ts';
import { noteKernelSegment } from './encrypting.ts';
import { becomeEncrypted, becomePlain, dropChain, endInSetup, resetBoth } from './lifecycle.ts';
import { fallBack, isInitData, receivePlain, refuse } from './plain.ts';
import type { Rewriter } from './rewriter.ts';
import { arrivalOf, copyOf, goodbye, has, initOptionBytes, ownSegment, viewOf } from './setup.ts';

/** The large exchange, which a path may be too narrow for. */
const X25519MLKEM768 = 0x210;

/** C-MODE: the kernel's first ACK becomes INIT1; what it sends before INIT2 waits. */
export function sendInCMode(rw: Rewriter, c: Connection, p: Packet, token: number): void {
  const { options } = viewOf(rw, p);
  const flags = flagsOf(p);
  if (flags & RST) return endInSetup(rw, c, p, token);
  if (!options) return rw.drop(token, 'kernel_options');
  noteKernelSegment(c, p, options);
  if (!c.initiation && !beginExchange(rw, c)) {
    if (c.decision.mode === 'Strict') return refuse(rw, c, p, token, 'out', 'no_common_algorithm');
    becomePlain(rw, c, 'no_common_algorithm');
    return rw.pass(token);
  }
  if (payloadOf(p).length === 0 && !(flags & (FIN | SYN))) return rw.drop(token, 'withheld_ack');
  rw.hold(c, p, token);
}

function initSuboptions(c: Connection): Suboption[] {
  const list: Suboption[] = [{ opcode: INIT1, data: new Uint8Array(0) }];
  if (c.ackCookie) list.unshift({ opcode: ACKCOOKIE, data: c.ackCookie });
  return list;
}

function beginExchange(rw: Rewriter, c: Connection): boolean {
  const means = rw.means();
  const narrow = rw.hints.avoids(c.peer, rw.now);
  const offered = narrow ? c.offered.filter((id) => id !== X25519MLKEM768) : c.offered;
  const room = Math.min(c.mssLocal, c.mssRemote) - initOptionBytes(c, initSuboptions(c));
  const exchange = chooseKeyExchange(means, offered, room);
  if (!exchange) return false;
  c.initiation = initiate(means, exchange);
  c.initSent = c.initiation.bytes;
  rw.noteOwnNonce(c.initiation.nonce);
  c.retransmitMs = rw.timers.initRetransmitMs;
  rw.setDeadline(c, rw.timers.initTimeoutMs);
  sendInit1(rw, c);
  return true;
}

export function sendInit1(rw: Rewriter, c: Connection): void {
  rw.toNetwork(ownSegment(c, rw, initSuboptions(c), c.initiation!.bytes, ACK | PSH));
  rw.setRetransmit(c, c.retransmitMs);
  c.retransmitMs *= 2;
}

/** Own timers of C-MODE and of SYN-SENT. */
export function activeTimeout(rw: Rewriter, c: Connection): void {
  if (c.phase !== 'c_mode' || !c.initiation) {
    if (c.deadline !== undefined && rw.now >= c.deadline) {
      dropChain(rw, c);
      rw.clearTimers(c);
    }
    return;
  }
  if (c.deadline !== undefined && rw.now >= c.deadline) return initTimeout(rw, c);
  sendInit1(rw, c);
}

/** INIT1 was not answered: plain, and next time without what may not have fitted the path. */
export function initTimeout(rw: Rewriter, c: Connection): void {
  if (!rw.ignoresNegativeList(c)) {
    const large = c.initiation!.keyExchange.id === X25519MLKEM768;
    if (large || c.icmpQuotedInit) rw.hints.avoid(c.peer, rw.now);
    else rw.negative.add(c.peer, rw.now);
  }
  fallBack(rw, c, 'init_timeout');
}

/** C-MODE: the peer's segments before INIT2. */
export function receiveInCMode(rw: Rewriter, c: Connection, p: Packet, token: number): void {
  const arrival = arrivalOf(c, p);
  if (arrival === 'ignore') return rw.drop(token, 'setup_numbers');
  if (arrival === 'reset') return endInSetup(rw, c, p, token);
  const view = viewOf(rw, p);
  const flags = flagsOf(p);
  if (has(view.crypt, INIT2)) {
    if (flags & (FIN | URG) || arrival.offset !== 1) return rw.drop(token, 'malformed_init');
    return receiveInit2(rw, c, p, token, arrival.ackOffset);
  }
  const neither = !view.crypt && !view.hasMac;
  if (neither && (arrival.ackOffset > 1 || isInitData(c, p, arrival.offset)))
    return rw.drop(token, 'stripped_init');
  if (
    view.hasMac ||
    (view.crypt && !(has(view.crypt, DECLINE) || view.unknownMandatory.length || flags & FIN))
  ) {
    return rw.drop(token, 'early');
  }
  if (arrival.ackOffset > 1) return rw.drop(token, 'stripped_init');
  if (view.unknownMandatory.length) c.goodbye = encodeSuboptions(goodbye(view.unknownMandatory));
  fallBack(rw, c, has(view.crypt, DECLINE) ? 'declined' : 'options_stripped');
  receivePlain(rw, c, p, token);
}

function receiveInit2(rw: Rewriter, c: Connection, p: Packet, token: number, ackOffset: number): void {
  const initiation = c.initiation;
  if (!initiation || ackOffset !== 1 + initiation.bytes.length) return rw.drop(token, 'setup_numbers');
  const init2 = copyOf(payloadOf(p));
  const session = complete(initiation, init2, c);
  if (session === 'malformed') return rw.drop(token, 'malformed_init');
  if (session === 'unauthentic' || (c.decision.authentication === 'Required' && !session.authenticated)) {
    rw.drop(token, 'unauthenticated');
    return resetBoth(rw, c, 'policy');
  }
  const { options } = viewOf(rw, p);
  if (options?.timestamps) c.tsEcho = options.timestamps.val;
  c.initSeen = init2;
  c.txDelta = initiation.bytes.length;
  c.rxDelta = init2.length;
  rw.drop(token, 'init2');
  becomeEncrypted(rw, c, session);
}
