/**
 * The applications above the model TCP. Each side of a connection sends a stream that any part can be
 * recognised by, follows a script (so much was read, then so much is written), and checks what it reads.
 */

import type { Clock } from './clock.ts';
import type { Application, TcpSocket } from './tcp-socket.ts';

export type Side = 'opener' | 'listener';

/** When `after` bytes have been read, and `delayMs` have passed, writes `bytes`. */
export interface Step {
  readonly after: number;
  readonly delayMs: number;
  readonly bytes: number;
  readonly urgent: boolean;
}

export interface Script {
  readonly steps: readonly Step[];
  /** What comes after the last step: a half-close, or a reset. */
  readonly end: 'close' | 'abort';
  /** Reads `chunk` bytes each so many milliseconds; all at once when undefined. */
  readonly slowRead: { readonly everyMs: number; readonly chunk: number } | undefined;
}

export function totalBytes(script: Script): number {
  return script.steps.reduce((sum, step) => sum + step.bytes, 0);
}

const STEP = 0x915f77f5;
const STRIDE = 0x6a09e667;

/** The stream of one side: 32-bit words, each a fixed function of the one before. */
export function pattern(label: number, side: Side, length: number): Uint8Array {
  const out = new Uint8Array(length + 3);
  let word = Math.imul(label * 2 + (side === 'opener' ? 1 : 2), 0x85ebca6b) ^ 0x27d4eb2f;
  for (let at = 0; at < length; at += 4) {
    word = (Math.imul(word, STEP) + STRIDE) | 0;
    out[at] = word;
    out[at + 1] = word >>> 8;
    out[at + 2] = word >>> 16;
    out[at + 3] = word >>> 24;
  }
  return out.subarray(0, length);
}

/** Whether some part of `bytes` is a piece of any side's stream: three words that follow one another. */
export function looksLikePattern(bytes: Uint8Array): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0; at + 12 <= bytes.length; at++) {
    const next = (Math.imul(view.getInt32(at, true), STEP) + STRIDE) | 0;
    if (view.getInt32(at + 4, true) !== next) continue;
    if (view.getInt32(at + 8, true) === ((Math.imul(next, STEP) + STRIDE) | 0)) return true;
  }
  return false;
}

export class ScriptedApplication implements Application {
  readonly stream: Uint8Array;
  readonly expected: Uint8Array;
  socket: TcpSocket | undefined;
  read = 0;
  sawEnd = false;
  how: 'closed' | 'reset' | 'timeout' | undefined;
  /** Offset (from 0) of the first byte read that the peer never wrote there. */
  wrongAt: number | undefined;
  establishedAt: number | undefined;
  endedAt: number | undefined;
  lastReadAt = 0;
  /** Ends of the urgent bytes, as stream offsets. */
  readonly urgentMarks = new Set<number>();
  private nextStep = 0;
  private written = 0;
  private reading = false;
  private stepDue = false;

  private readonly clock: Clock;
  readonly script: Script;

  constructor(clock: Clock, script: Script, label: number, side: Side, peerBytes: number) {
    this.clock = clock;
    this.script = script;
    this.stream = pattern(label, side, totalBytes(script));
    this.expected = pattern(label, side === 'opener' ? 'listener' : 'opener', peerBytes);
  }

  /** All was read, and the connection ended in order. */
  get complete(): boolean {
    return this.how === 'closed' && this.sawEnd && this.read === this.expected.length;
  }

  get finishedWriting(): boolean {
    return this.nextStep >= this.script.steps.length;
  }

  established(socket: TcpSocket): void {
    this.socket = socket;
    this.establishedAt = this.clock.now;
    this.advance();
  }

  acknowledged(): void {}

  readable(socket: TcpSocket): void {
    const slow = this.script.slowRead;
    if (slow === undefined) {
      this.take(socket, Number.POSITIVE_INFINITY);
      return;
    }
    if (this.reading) return;
    this.reading = true;
    this.clock.after(slow.everyMs, () => {
      this.reading = false;
      this.take(socket, slow.chunk);
      if (this.read < socket.receiver.available && socket.ended === undefined) this.readable(socket);
    });
  }

  private take(socket: TcpSocket, limit: number): void {
    const bytes = socket.receiver.bytes();
    const end = Math.min(bytes.length, this.read + limit);
    for (let at = this.read; at < end && this.wrongAt === undefined; at++) {
      if (bytes[at] !== this.expected[at]) this.wrongAt = at;
    }
    const count = end - this.read;
    this.read = end;
    if (count > 0) this.lastReadAt = this.clock.now;
    if (count > 0) socket.consume(count);
    if (socket.receiver.finished && this.read === socket.receiver.available) this.sawEnd = true;
    this.advance();
  }

  private advance(): void {
    const { socket, script } = this;
    if (socket === undefined || socket.ended !== undefined || this.stepDue) return;
    const step = script.steps[this.nextStep];
    if (step === undefined) {
      if (script.end === 'close') socket.close();
      else if (this.nextStep++ === script.steps.length) this.clock.after(5, () => socket.abort());
      return;
    }
    if (this.read < step.after) return;
    this.stepDue = true;
    this.clock.after(step.delayMs, () => {
      this.stepDue = false;
      this.nextStep++;
      if (socket.ended !== undefined) return;
      const end = this.written + step.bytes;
      const bytes = this.stream.subarray(this.written, end);
      this.written = end;
      if (step.urgent) this.urgentMarks.add(1 + end);
      if (step.urgent) socket.sender.urgentAt = 1 + end;
      socket.write(bytes);
      this.advance();
    });
  }

  ended(socket: TcpSocket, how: 'closed' | 'reset' | 'timeout'): void {
    this.socket ??= socket;
    // What lies in the buffer can still be read after an orderly end.
    if (how === 'closed') this.take(socket, Number.POSITIVE_INFINITY);
    this.how = how;
    this.endedAt = this.clock.now;
  }
}
