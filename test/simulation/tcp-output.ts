/** What a socket of the model TCP puts on the wire. */

import { ACK, FIN, joinOptions, PSH, RST, type Segment, SYN, URG } from './segment.ts';
import { writeOptions, writeSynOptions } from './tcp-options.ts';
import type { TcpSocket } from './tcp-socket.ts';

/** A timestamp clock of one tick a millisecond, from a random base. */
function timestamps(socket: TcpSocket): { value: number; echo: number } | undefined {
  if (!socket.timestamps) return undefined;
  return { value: (socket.tsBase + Math.floor(socket.host.clock.now)) >>> 0, echo: socket.tsRecent };
}

function sackBlocks(socket: TcpSocket): (readonly [number, number])[] {
  if (!socket.sack || !socket.receiver.hasSack) return [];
  const edge = (offset: number): number => (socket.irs + offset) >>> 0;
  return socket.receiver.sackBlocks().map(({ from, to }) => [edge(from), edge(to)] as const);
}

interface Fields {
  offset: number;
  flags: number;
  options: Uint8Array;
  payload?: Uint8Array;
  urgent?: number;
  window?: number;
  /** Of a super-segment, how much data each segment has. */
  gsoBytes?: number | undefined;
}

function transmit(socket: TcpSocket, fields: Fields): void {
  const withAck = (fields.flags & ACK) !== 0;
  const window = fields.window ?? socket.receiver.window(socket.scale, socket.ownMss) / 2 ** socket.scale;
  if (withAck) socket.ackSent();
  const segment: Segment = {
    src: socket.local.address,
    dst: socket.remote.address,
    sport: socket.local.port,
    dport: socket.remote.port,
    seq: (socket.iss + fields.offset) >>> 0,
    ack: withAck ? (socket.irs + socket.receiver.next) >>> 0 : 0,
    flags: fields.flags,
    window,
    urgent: fields.urgent ?? 0,
    options: fields.options,
    payload: fields.payload ?? new Uint8Array(0),
  };
  socket.host.transmit(segment, fields.gsoBytes);
}

/** SYN or SYN-ACK by the socket's state, or a reset. */
export function sendControl(socket: TcpSocket, reset = false): void {
  if (reset) {
    transmit(socket, {
      offset: socket.sender.next,
      flags: RST | ACK,
      options: writeOptions(timestamps(socket), []),
    });
    return;
  }
  const active = socket.state === 'syn-sent';
  const options = writeSynOptions({
    mss: socket.ownMss,
    sackPermitted: socket.sack,
    timestamps: timestamps(socket),
    windowScale: active || socket.scale > 0 ? socket.settings.windowScale : undefined,
  });
  const window = Math.min(0xffff, socket.receiver.window(0, socket.ownMss));
  transmit(socket, { offset: 0, flags: active ? SYN : SYN | ACK, options, window });
}

export function sendAck(socket: TcpSocket): void {
  if (!socket.synchronised) return;
  const options = writeOptions(timestamps(socket), sackBlocks(socket));
  transmit(socket, { offset: socket.sender.next, flags: ACK, options });
}

/** An ACK for what lies out of the window; at most one in 500 ms for segments without data (Linux). */
export function answerOutOfWindow(socket: TcpSocket, hasData: boolean): void {
  const { now } = socket.host.clock;
  if (!hasData && now - socket.lastOutOfWindowAck < 500) return;
  if (!hasData) socket.lastOutOfWindowAck = now;
  if (socket.state === 'syn-received') return;
  sendAck(socket);
}

/** Keep-alive: a sequence number below what is expected, with or without a garbage byte. */
export function sendKeepalive(socket: TcpSocket): void {
  const payload = Uint8Array.of(0).subarray(0, socket.settings.keepaliveGarbage ? 1 : 0);
  const options = writeOptions(timestamps(socket), []);
  transmit(socket, { offset: socket.sender.next - 1, flags: ACK, options, payload });
}

/** Window probe: Linux sends an empty segment below the window, BSD the next byte. */
export function sendProbe(socket: TcpSocket): void {
  const { sender } = socket;
  if (socket.settings.probeWithByte && sender.next <= sender.data.length) {
    const piece = { from: sender.next, to: sender.next + 1 };
    sender.next = piece.to;
    sendPiece(socket, piece);
    return;
  }
  transmit(socket, { offset: sender.una - 1, flags: ACK, options: writeOptions(timestamps(socket), []) });
}

/** Sends what window and congestion allow. */
export function flush(socket: TcpSocket): void {
  let next = nextPiece(socket);
  for (let pieces = 0; next !== undefined && pieces < 64 && socket.state !== 'closed'; pieces++) {
    const piece = next;
    const size = piece.to - piece.from;
    next = nextPiece(socket);
    // Pieces in a row, all of one size but for the last, leave as one.
    for (let joined = 1; next?.from === piece.to && joined < mostSegments(socket); joined++) {
      if (next.to - next.from > size || piece.to - piece.from !== joined * size) break;
      piece.to = next.to;
      next = nextPiece(socket);
    }
    sendPiece(socket, piece, size);
  }
  socket.armRetransmit();
}

function nextPiece(socket: TcpSocket): { from: number; to: number } | undefined {
  const sackBytes = socket.sack && socket.receiver.hasSack ? 12 : 0;
  return socket.sender.piece(dataRoom(socket, sackBytes));
}

/** Nothing is joined in urgent mode. */
function mostSegments({ sender, settings }: TcpSocket): number {
  return sender.urgentAt > sender.una ? 1 : settings.superSegments;
}

function dataRoom(socket: TcpSocket, sackBytes: number): number {
  const mss = Math.min(socket.peerMss, socket.ownMss) - (socket.timestamps ? 12 : 0) - sackBytes;
  return Math.max(mss, 16);
}

function sendPiece(
  socket: TcpSocket,
  piece: { from: number; to: number },
  size = piece.to - piece.from,
): void {
  const { sender } = socket;
  const fin = piece.to > sender.finAt;
  const end = fin ? sender.finAt : piece.to;
  const payload = sender.data.slice(piece.from - 1, end - 1);
  const sack = sackBlocks(socket);
  const room = dataRoom(socket, sack.length > 0 ? 4 + 8 * sack.length : 0);
  // SACK blocks only where they do not push the segment beyond the MSS.
  const each = Math.min(payload.length, size);
  const blocks = each <= room ? sack : each + 12 <= room + 8 * sack.length ? sack.slice(0, 1) : [];
  const pointer = sender.urgentAt - piece.from;
  const urgent = pointer > 0 && pointer <= 0xffff;
  let flags = ACK | (fin ? FIN : 0) | (urgent ? URG : 0);
  if (end === 1 + sender.data.length && payload.length > 0) flags |= PSH;
  if (socket.timed === undefined && piece.to === sender.next) {
    socket.timed = { offset: piece.to, at: socket.host.clock.now };
  }
  const options = joinOptions([writeOptions(timestamps(socket), blocks)]);
  const gsoBytes = payload.length > size ? size : undefined;
  transmit(socket, { offset: piece.from, flags, options, payload, urgent: urgent ? pointer : 0, gsoBytes });
}
