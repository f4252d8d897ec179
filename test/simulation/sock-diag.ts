/** A model host's sockets as sock_diag lists them, tcp_info's counters with Linux's habits. */

import type { SocketInfo } from '../../sidecar/rewriter/types.ts';
import type { TcpHost } from './tcp-host.ts';
import type { TcpState } from './tcp-socket.ts';

/** Linux's number of a state. */
const STATE_NUMBERS: { readonly [state in TcpState]: number } = {
  established: 1,
  'syn-sent': 2,
  'syn-received': 3,
  'fin-wait-1': 4,
  'fin-wait-2': 5,
  'time-wait': 6,
  closed: 7,
  'close-wait': 8,
  'last-ack': 9,
  closing: 11,
};

export function socketsOf(tcp: TcpHost): SocketInfo[] {
  return [...tcp.sockets.values()].map((socket) => {
    const { sender, receiver } = socket;
    const counted = socket.synchronised && socket.state !== 'time-wait';
    // write_seq, in offsets: a FIN counts as soon as it is queued.
    const end = 1 + sender.data.length + (sender.closed ? 1 : 0);
    return {
      local: endpoint(socket.local),
      remote: endpoint(socket.remote),
      state: STATE_NUMBERS[socket.state],
      sendQueueBytes: counted ? end - sender.una : 0,
      // bytes_acked counts the SYN of an active opener, not that of a passive one.
      ...(counted && {
        bytesAcked: sender.una - (socket.active ? 0 : 1),
        bytesReceived: receiver.next - 1,
        notSentBytes: end - sender.next,
      }),
    };
  });
}

function endpoint({ address, port }: { readonly address: string; readonly port: number }): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}
