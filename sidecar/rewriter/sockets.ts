/** What the kernel's list of sockets says: which connections are over, and which may be taken back after a restart. */
import { decode } from './checkpoint.ts';
import type { Connection } from './connection.ts';
import type { Rewriter } from './rewriter.ts';
import type { SocketInfo } from './types.ts';

/** A socket that two successive lists of the kernel's do not have is gone. */
const MISSING_TWICE = 2;

const pairOf = ({ local, remote }: Pick<SocketInfo, 'local' | 'remote'>): string => `${local} ${remote}`;

/** Drops the state of connections whose socket is gone. */
export function reconcile(rw: Rewriter, sockets: Iterable<SocketInfo>): void {
  const alive = new Map<string, SocketInfo>();
  for (const socket of sockets) alive.set(pairOf(socket), socket);
  for (const c of rw.table.values()) {
    const socket = alive.get(pairOf(c));
    if (socket) {
      c.missing = 0;
      c.boundToInterface = socket.boundToInterface ?? false;
    }
    // A connection in setup may stand for a SYN cookie; its own timers end it.
    else if (c.deadline === undefined && ++c.missing >= MISSING_TWICE) rw.remove(c);
  }
}

/** Takes the records of a former process back; returns how many connections live on. */
export function restore(
  rw: Rewriter,
  records: Iterable<readonly [string, Uint8Array]>,
  sockets: Iterable<SocketInfo>,
): number {
  const bySocket = new Map<string, SocketInfo>();
  for (const socket of sockets) bySocket.set(pairOf(socket), socket);
  let restored = 0;
  for (const [key, record] of records) {
    const c = decode(record, rw.suites);
    const socket = c && bySocket.get(pairOf(c));
    if (!c || !socket || isAnother(c, socket)) {
      c?.secured?.generations.destroy();
      rw.store?.delete(key);
      continue;
    }
    takeBack(rw, c, socket);
    restored++;
  }
  return restored;
}

/** The pair of addresses was used anew while we were away: the kernel's counters stand below the record's. */
function isAnother(c: Connection, { bytesAcked, bytesReceived }: SocketInfo): boolean {
  if (c.phase !== 'encrypting' || bytesAcked === undefined || bytesReceived === undefined) return false;
  return bytesAcked + 1 + c.txDelta < c.txAcked || bytesReceived + 2 < c.kernelAck;
}

/** The high halves of a connection's offsets, and how far it may have sent, come from the kernel's counters. */
function takeBack(rw: Rewriter, c: Connection, socket: SocketInfo): void {
  const { bytesAcked, bytesReceived, sendQueueBytes, notSentBytes = 0 } = socket;
  if (bytesAcked !== undefined && c.phase === 'encrypting') {
    // tcpi_bytes_acked counts an active opener's SYN, not a passive opener's SYN-ACK.
    const acked = bytesAcked + (c.active ? 0 : 1) + c.txDelta;
    c.txAcked = Math.max(c.txAcked, acked);
    c.txNext = Math.max(acked + sendQueueBytes - notSentBytes, c.txAcked);
  }
  if (bytesReceived !== undefined) c.rxNext = Math.max(c.rxNext, bytesReceived + c.rxDelta);
  c.generationSince = rw.now;
  rw.add(c);
  if (c.phase === 's_mode') {
    c.retransmitMs = rw.timers.initRetransmitMs;
    rw.setRetransmit(c, 0);
    rw.setDeadline(c, rw.timers.setupIdleMs);
  } else if (c.phase === 'encrypting') {
    c.verified = true;
  }
}
