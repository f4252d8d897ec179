/** The decisive moments of a connection: encrypted, plain, refused, over. What each leaves behind, and erases. */
import { Generations } from '../protocol/generations.ts';
import type { Session } from '../protocol/handshake.ts';
import { erase, masterKey, sessionId } from '../protocol/key-schedule.ts';
import type { CachedSession, SessionAttributes } from '../protocol/session-cache.ts';
import type { Packet } from '../wire/packet.ts';
import type { Connection } from './connection.ts';
import { infoOf } from './info.ts';
import { resets } from './plain.ts';
import type { Rewriter } from './rewriter.ts';
import { sealOwn } from './seal.ts';
import type { FallbackReason } from './types.ts';

type Peered = Pick<Connection, 'peer' | 'decision'>;

/** A cached session for a connection that we open, if policy lets its algorithms and authentication pass. */
export function resumable(rw: Rewriter, c: Peered): CachedSession | undefined {
  if (!rw.policy.sessionCache.enabled) return undefined;
  const cached = rw.cache.take(c.peer, rw.now);
  rw.observer.cacheLookup('C', !!cached);
  return acceptable(rw, c, cached);
}

/** The session that a peer's NEXTK1 names. */
export function acceptResumption(rw: Rewriter, sid9: Uint8Array, c: Peered): CachedSession | undefined {
  if (!rw.policy.sessionCache.enabled) return undefined;
  const cached = rw.cache.accept(sid9, rw.now);
  rw.observer.cacheLookup('S', !!cached);
  return acceptable(rw, c, cached);
}

function acceptable(rw: Rewriter, c: Peered, cached: CachedSession | undefined): CachedSession | undefined {
  if (!cached) return undefined;
  const { attributes } = cached;
  const { keyExchanges, suites: allowed } = rw.algorithms;
  const authenticated = attributes.authenticated || c.decision.authentication !== 'Required';
  if (authenticated && keyExchanges.includes(attributes.keyExchange) && allowed.includes(attributes.suite))
    return cached;
  erase(cached.secret);
  rw.cache.drop(cached.chain);
  return undefined;
}

/** Makes the keys of a full handshake and caches what follows; the session's secret is erased. */
export function prepareEncryption(rw: Rewriter, c: Connection, session: Session): void {
  const { secret, role, keyExchange, suite, authenticated, keyId } = session;
  const attributes: SessionAttributes = {
    role,
    keyExchange,
    suite,
    authenticated,
    keyId,
    peerAppSupport: c.peerAppSupport,
  };
  if (rw.policy.sessionCache.enabled) c.chain = rw.cache.add(c.peer, secret, 0, attributes, rw.now);
  secure(rw, c, secret, sessionId(secret), attributes, masterKey(secret), 'full');
}

function secure(
  rw: Rewriter,
  c: Connection,
  secret: Uint8Array,
  sid: Uint8Array,
  attributes: SessionAttributes,
  master: Uint8Array,
  handshake: 'full' | 'cached',
): void {
  if (rw.keyLog) {
    const [opener, listener] = c.active ? [c.local, c.remote] : [c.remote, c.local];
    rw.observer.secret?.(sid, secret, opener, listener);
  }
  erase(secret);
  const { role, keyExchange, suite: id, authenticated, keyId } = attributes;
  const suite = rw.suites.get(id)!;
  c.secured = {
    generations: new Generations(suite, role, master, 1 + c.txDelta),
    sessionRole: role,
    sessionId: Buffer.from(sid.buffer, sid.byteOffset, sid.length).toString('hex'),
    keyExchange,
    suite: id,
    aggregate: suite.aggregate,
    authenticated,
    keyId,
    handshake,
  };
  c.txNext = 1 + c.txDelta;
  c.txAcked = 1 + c.txDelta;
  c.rxNext = 1 + c.rxDelta;
  c.generationSince = rw.now;
  c.path = rw.paths.get(c.peer, rw.now);
  rw.checkpoint(c);
}

/** C has its INIT2: bound. What was held leaves encrypted, after the ACK that the kernel has long sent. */
export function becomeEncrypted(rw: Rewriter, c: Connection, session: Session): void {
  c.initiation!.offer.destroy();
  c.initiation = undefined;
  c.phase = 'encrypting';
  rw.clearTimers(c);
  c.endSetup();
  prepareEncryption(rw, c, session);
  confirmEncryption(rw, c);
  rw.toNetwork(sealOwn(rw, c, []));
  rw.releaseHeld(c, 'send');
}

/** NEXTK2 was said: both ends are bound at once. */
export function becomeEncryptedFromCache(rw: Rewriter, c: Connection): void {
  const { secret, sid, chain, attributes } = c.resume!;
  c.resume = undefined;
  c.chain = chain;
  c.phase = 'encrypting';
  rw.clearTimers(c);
  const master = masterKey(secret, c);
  c.endSetup();
  secure(rw, c, secret, sid, attributes, master, 'cached');
  if (c.active) confirmEncryption(rw, c);
}

/** Reports the connection as encrypted, once: C when it is bound, S when the peer has proved itself. */
export function confirmEncryption(rw: Rewriter, c: Connection): void {
  decide(rw, c, 'encrypted');
}

export function noteVerified(rw: Rewriter, c: Connection): void {
  if (c.verified) return;
  c.verified = true;
  c.endSyn();
  rw.clearTimers(c);
  forgetSyn(rw, c);
  rw.negative.succeed(c.peer);
  rw.known.note(c.peer, rw.now);
  confirmEncryption(rw, c);
}

/** Its SYN's record has served. Records count as half-open connections, of which only so many may be held. */
export function forgetSyn(rw: Rewriter, c: Connection): void {
  if (!c.active && rw.syns.get(c.key)?.isn === c.isnRemote) rw.syns.delete(c.key);
}

function decide(rw: Rewriter, c: Connection, outcome: 'encrypted' | 'plain' | 'refused'): void {
  if (c.decided) return;
  c.decided = true;
  const unauthenticated = c.decision.authentication === 'Required' && !c.secured?.authenticated;
  rw.observer.decided({
    connection: infoOf(c),
    outcome,
    handshake: outcome === 'encrypted' ? c.secured!.handshake : 'none',
    durationMs: rw.now - c.openedAt,
    peerKnown: rw.known.has(c.peer, rw.now),
    wouldRefuse: c.decision.mode === 'Audit' && (outcome === 'plain' || unauthenticated),
  });
}

/** DISABLED. Keys that may exist already (S after INIT2) are erased; nothing was sent under them. */
export function becomePlain(rw: Rewriter, c: Connection, reason: FallbackReason): void {
  dropChain(rw, c);
  forgetKeys(rw, c);
  c.phase = 'plain';
  c.reason = reason;
  c.txDelta = 0;
  c.rxDelta = 0;
  rw.clearTimers(c);
  // Its packets are still queued, marked tcpcrypt: a restart must know that it is plain.
  if (c.synAckBody.length > 0 && c.hasTemplate) rw.checkpoint(c);
  decide(rw, c, 'plain');
}

/** The key of a connection's checkpoint record. */
export const storeKey = (c: Connection): string => Buffer.from(c.key, 'latin1').toString('hex');

/** Drops the chain of session secrets that the connection used or began. */
export function dropChain(rw: Rewriter, c: Connection): void {
  if (c.resume) erase(c.resume.secret);
  const chain = c.resume?.chain ?? c.chain;
  if (chain) rw.cache.drop(chain);
  c.resume = undefined;
  c.chain = undefined;
}

export function forgetKeys(rw: Rewriter, c: Connection): void {
  if (c.resume) erase(c.resume.secret);
  c.initiation?.offer.destroy();
  c.initiation = undefined;
  if (!c.secured) return;
  c.secured.generations.destroy();
  c.secured = undefined;
  rw.store?.delete(storeKey(c));
}

/** An RST in setup ends the connection; it goes on as it is. */
export function endInSetup(rw: Rewriter, c: Connection, p: Packet, token: number): void {
  rw.pass(token, rw.withoutOurOptions(p));
  rw.remove(c);
}

export function refused(rw: Rewriter, c: Connection, reason: FallbackReason): void {
  c.reason = reason;
  dropChain(rw, c);
  decide(rw, c, 'refused');
  rw.remove(c);
}

/** Ends a connection that may be neither encrypted nor plain. */
export function resetBoth(rw: Rewriter, c: Connection, reason: FallbackReason): void {
  const both = resets(c);
  if (both) {
    rw.toNetwork(both.toNetwork);
    rw.toKernel(both.toKernel);
  }
  refused(rw, c, reason);
}

/** What the end of an encrypted connection teaches: one on which nothing ever verified is not tried again. */
export function learnFromEnd(rw: Rewriter, c: Connection): void {
  if (c.phase !== 'encrypting' || c.verified) return;
  dropChain(rw, c);
  if (c.active && !rw.ignoresNegativeList(c)) rw.negative.add(c.peer, rw.now);
}
