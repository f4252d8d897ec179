/** A model host's sockets as sock_diag lists them, tcp_info's counters with Linux's habits. */

import type { SocketInfo } from '../../sidecar/rewriter/types.ts';
import type { TcpHost } from './tcp-host.ts';
import type { TcpSocket } from './tcp-socket.ts';

const CLOSED_STATES = {
  'syn-sent': 2,
  'syn-received': 3,
  established: 1,
  'fin-wait-1': 4,
  'fin-wait-2': 5,
} as const;
const LATE_STATES = { 'close-wait': 8, closing: 11, 'last-ack': 9, 'time-wait': 6, closed: 7 } as const;

/** Linux's number of a state, for the list of sockets. */
function stateNumber(socket: TcpSocket): number {
  return { ...CLOSED_STATES, ...LATE_STATES }[socket.state];
}

export function socketsOf(tcp: TcpHost): SocketInfo[] {
  const text = (address: string, port: number): string =>
    address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
  return [...tcp.sockets.values()].map((socket) => ({
    local: text(socket.local.address, socket.local.port),
    remote: text(socket.remote.address, socket.remote.port),
    state: stateNumber(socket),
    ...(socket.synchronised && socket.state !== 'time-wait'
      ? { bytesAcked: socket.sender.una - (socket.active ? 0 : 1), bytesReceived: socket.receiver.next - 1 }
      : {}),
    notSentBytes: Math.max(0, socket.sender.data.length + 1 - Math.max(1, socket.sender.next)),
    sendQueueBytes:
      socket.state === 'time-wait' ? 0 : socket.sender.data.length - Math.max(0, socket.sender.una - 1),
  }));
}
