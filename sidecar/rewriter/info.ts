/** A connection as others see it. */
import { suites } from '../crypto/asm.ts';
import { keyExchanges } from '../crypto/key-exchange.ts';
import type { Connection } from './connection.ts';
import type { ConnectionInfo } from './types.ts';

export function stateOf(c: Connection): ConnectionInfo['state'] {
  if (c.phase === 'encrypting' && c.secured) return 'encrypted';
  return c.phase === 'plain' || c.reason ? 'plain' : 'setup';
}

export function infoOf(c: Connection): ConnectionInfo {
  const { secured } = c;
  const bound = c.phase === 'encrypting' && secured;
  return {
    local: c.local,
    remote: c.remote,
    active: c.active,
    role: secured?.sessionRole ?? (c.active ? 'C' : 'S'),
    state: stateOf(c),
    ...(c.reason && { reason: c.reason }),
    ...(bound && {
      keyExchange: keyExchanges.get(secured.keyExchange)!.name,
      suite: suites.get(secured.suite)!.name,
      handshake: secured.handshake,
      sessionId: secured.sessionId,
    }),
    authenticated: bound ? secured.authenticated : false,
    peerAppSupport: c.peerAppSupport,
    openedAtMs: c.openedAt,
    bytesIn: c.bytesIn,
    bytesOut: c.bytesOut,
  };
}
