/** What a socket of the model TCP does with a segment: RFC 9293 with RFC 5961's answers, as Linux does it. */

import { ACK, FIN, RST, type Segment, SYN, spaceOf, URG } from './segment.ts';
import { type ReadOptions, readOptions } from './tcp-options.ts';
import { answerOutOfWindow, flush, sendAck, sendControl } from './tcp-output.ts';
import type { TcpSocket } from './tcp-socket.ts';

export function receive(socket: TcpSocket, segment: Segment): void {
  const options = readOptions(segment.options);
  if (socket.state === 'syn-sent') inSynSent(socket, segment, options);
  else if (socket.state === 'time-wait') inTimeWait(socket, segment);
  else if (socket.state !== 'closed') synchronised(socket, segment, options);
}

/** Takes what a SYN or SYN-ACK says of the peer. */
export function learn(socket: TcpSocket, segment: Segment, options: ReadOptions): void {
  socket.irs = segment.seq;
  socket.peerMss = options.mss ?? 536;
  socket.sack &&= options.sackPermitted;
  socket.timestamps &&= options.timestamps !== undefined;
  socket.tsRecent = options.timestamps?.value ?? 0;
  const scaled = options.windowScale !== undefined && socket.settings.windowScale !== undefined;
  socket.peerScale = scaled ? options.windowScale! : 0;
  socket.scale = scaled ? socket.settings.windowScale! : 0;
  socket.sender.edge = 1 + segment.window;
  socket.sender.largestWindow = segment.window;
}

function inSynSent(socket: TcpSocket, segment: Segment, options: ReadOptions): void {
  const acked = (segment.flags & ACK) !== 0;
  if (acked && ((segment.ack - socket.iss) | 0) !== 1) {
    if (!(segment.flags & RST)) socket.host.sendReset(segment);
    return;
  }
  if (segment.flags & RST) {
    if (acked) socket.end('reset');
    return;
  }
  if (!(segment.flags & SYN)) return;
  socket.lastHeard = socket.host.clock.now;
  learn(socket, segment, options);
  if (acked) {
    socket.sender.una = 1;
    socket.establish();
    // What the application wrote at once may carry the handshake's ACK, as in Linux's ping-pong mode.
    if (socket.ended === undefined && socket.sender.next === 1) sendAck(socket);
  } else {
    socket.state = 'syn-received';
    sendControl(socket);
  }
}

function inTimeWait(socket: TcpSocket, segment: Segment): void {
  const offset = offsetOf(socket, segment);
  if (segment.flags & RST) {
    if (offset === socket.receiver.next) socket.vanish();
  } else if (spaceOf(segment) > 0 || offset !== socket.receiver.next) {
    answerOutOfWindow(socket, spaceOf(segment) > 0);
  }
}

function offsetOf(socket: TcpSocket, segment: Segment): number {
  const { next } = socket.receiver;
  return next + ((segment.seq - (socket.irs + next)) | 0);
}

function synchronised(socket: TcpSocket, segment: Segment, options: ReadOptions): void {
  const { sender, receiver } = socket;
  const offset = offsetOf(socket, segment);
  const { flags } = segment;
  const stamp = socket.timestamps ? options.timestamps : undefined;
  if (socket.state === 'syn-received' && flags & SYN && !(flags & ACK) && offset === 0) {
    sendControl(socket);
    return;
  }
  if (stamp !== undefined && ((stamp.value - socket.tsRecent) | 0) < 0 && !(flags & RST)) {
    answerOutOfWindow(socket, segment.payload.length > 0);
    return;
  }
  const end = offset + segment.payload.length + (flags & FIN ? 1 : 0);
  const crossing = socket.state === 'syn-received' && flags & SYN && flags & ACK && offset === 0;
  if (!crossing) {
    if (end < socket.lastAckSent || offset > Math.max(receiver.windowEnd, receiver.next)) {
      if (!(flags & RST)) answerOutOfWindow(socket, segment.payload.length > 0 || (flags & SYN) !== 0);
      return;
    }
    if (flags & RST) {
      if (offset === receiver.next) socket.end('reset');
      else answerOutOfWindow(socket, false);
      return;
    }
    if (flags & SYN) {
      answerOutOfWindow(socket, true);
      return;
    }
  }
  if (!(flags & ACK)) return;
  const ack = sender.una + ((segment.ack - (socket.iss + sender.una)) | 0);
  if (socket.state === 'syn-received') {
    if (ack !== 1) {
      socket.host.sendReset(segment);
      return;
    }
    if (socket.host.acceptQueueFull(socket)) return;
    sender.una = 1;
    socket.lastHeard = socket.host.clock.now;
    updateWindow(socket, segment);
    socket.establish();
    if (crossing) sendAck(socket);
    if (socket.ended !== undefined) return;
  }
  if (ack > sender.next) return;
  if (ack < sender.una - sender.largestWindow) {
    answerOutOfWindow(socket, false);
    return;
  }
  socket.lastHeard = socket.host.clock.now;
  if (stamp !== undefined && offset <= socket.lastAckSent) socket.tsRecent = stamp.value;
  acknowledge(socket, segment, ack, options);
  if (socket.ended !== undefined) return;
  if (flags & URG) socket.watch?.urgent(socket, offset + segment.urgent);
  if (segment.payload.length > 0 || flags & FIN) text(socket, segment, offset);
  if (socket.ended === undefined) flush(socket);
}

function updateWindow(socket: TcpSocket, segment: Segment): void {
  const { sender } = socket;
  const window = segment.window * 2 ** socket.peerScale;
  sender.edge = Math.max(sender.edge, sender.una + window);
  sender.largestWindow = Math.max(sender.largestWindow, window);
}

function acknowledge(socket: TcpSocket, segment: Segment, ack: number, options: ReadOptions): void {
  const { sender } = socket;
  for (const [left, right] of socket.sack ? options.sack : []) {
    const from = sender.una + ((left - (socket.iss + sender.una)) | 0);
    const to = from + ((right - left) | 0);
    socket.watch?.sacked(socket, from, to);
    sender.sack(from, to);
  }
  socket.watch?.acknowledged(socket, ack);
  const edge = sender.edge;
  if (ack >= sender.una) {
    const moved = ack > sender.una;
    if (moved) sender.acknowledged(ack);
    updateWindow(socket, segment);
    if (moved) {
      if (socket.timed !== undefined && ack >= socket.timed.offset) {
        const sample = socket.host.clock.now - socket.timed.at;
        socket.srtt = socket.srtt === undefined ? sample : socket.srtt + (sample - socket.srtt) / 8;
        socket.timed = undefined;
      }
      socket.progressed();
      socket.app.acknowledged(socket);
    } else if (segment.payload.length === 0 && sender.outstanding && sender.edge === edge) {
      sender.duplicate();
    } else if (sender.edge > edge && !sender.outstanding) {
      socket.progressed();
    }
  }
  if (ack > sender.finAt) {
    if (socket.state === 'fin-wait-1') socket.state = 'fin-wait-2';
    else if (socket.state === 'closing') socket.enterTimeWait();
    else if (socket.state === 'last-ack') socket.end('closed');
  }
}

function text(socket: TcpSocket, segment: Segment, offset: number): void {
  const { receiver } = socket;
  const had = receiver.finished;
  const { advanced, urgent } = receiver.take(offset, segment.payload, (segment.flags & FIN) !== 0);
  if (advanced && receiver.finished && !had) {
    if (socket.state === 'established') socket.state = 'close-wait';
    else if (socket.state === 'fin-wait-1') socket.state = 'closing';
    else if (socket.state === 'fin-wait-2') {
      sendAck(socket);
      socket.app.readable(socket);
      socket.enterTimeWait();
      return;
    }
    sendAck(socket);
  } else if (urgent || ++socket.unackedSegments >= 2) {
    sendAck(socket);
  } else {
    socket.armAck();
  }
  if (advanced) socket.app.readable(socket);
}
