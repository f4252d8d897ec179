/** What a run shows of itself: nothing, a line a packet, or a capture file. */

import { appendFileSync, writeFileSync } from 'node:fs';
import { ACK, decode, FIN, listOptions, PSH, RST, type Segment, SYN, URG } from './segment.ts';

export interface Trace {
  line(now: number, text: string): void;
  packet(now: number, where: string, bytes: Uint8Array): void;
  note(now: number, what: string, segment: Segment): void;
  /** A packet on the wire, as it left. */
  capture(now: number, bytes: Uint8Array): void;
}

export const silent: Trace = { line() {}, packet() {}, note() {}, capture() {} };

export function verbose(write: (line: string) => void): Trace {
  const stamp = (now: number): string => now.toFixed(0).padStart(8);
  return {
    line: (now, text) => write(`${stamp(now)} ${text}`),
    packet: (now, where, bytes) => {
      const segment = decode(bytes);
      write(`${stamp(now)} ${where.padEnd(24)} ${typeof segment === 'string' ? segment : describe(segment)}`);
    },
    note: (now, what, segment) => write(`${stamp(now)} ${what.padEnd(24)} ${describe(segment)}`),
    capture() {},
  };
}

const FLAGS: readonly (readonly [number, string])[] = [
  [SYN, 'S'],
  [FIN, 'F'],
  [RST, 'R'],
  [PSH, 'P'],
  [URG, 'U'],
  [ACK, '.'],
];

export function describe(segment: Segment): string {
  const flags = FLAGS.filter(([bit]) => segment.flags & bit).map(([, letter]) => letter);
  const options = listOptions(segment.options).map(({ kind, bytes }) => {
    const body = Buffer.from(bytes.subarray(2));
    if (kind === 253 && body[1] === 0x43) return `CRYPT<${body.subarray(2).toString('hex')}>`;
    if (kind === 253 && body[1] === 0x4d) return `MAC${body.length - 2}`;
    if (kind === 69) return `CRYPT<${body.toString('hex')}>`;
    if (kind === 70) return `MAC${body.length}`;
    if (kind === 5) {
      const edges: number[] = [];
      for (let at = 0; at < body.length; at += 4) edges.push(body.readUInt32BE(at));
      return `SACK ${edges.join('-')}`;
    }
    if (kind === 8) return `TS ${body.readUInt32BE(0)}/${body.readUInt32BE(4)}`;
    return (
      { 2: `mss ${body.length === 2 ? body.readUInt16BE(0) : '?'}`, 3: 'ws', 4: 'sackOK' }[kind] ??
      `kind ${kind}`
    );
  });
  const end = (segment.seq + segment.payload.length) >>> 0;
  return (
    `${segment.sport}>${segment.dport} ${flags.join('')} ${segment.seq}:${end}(${segment.payload.length})` +
    ` ack ${segment.ack} win ${segment.window}${segment.flags & URG ? ` urg ${segment.urgent}` : ''} [${options.join(', ')}]`
  );
}

/** A capture of the wire: nanosecond pcap, LINKTYPE_RAW (101). */
export function pcap(file: string): Trace {
  const header = Buffer.alloc(24);
  header.writeUInt32LE(0xa1b23c4d, 0);
  header.writeUInt16LE(2, 4);
  header.writeUInt16LE(4, 6);
  header.writeUInt32LE(65535, 16);
  header.writeUInt32LE(101, 20);
  writeFileSync(file, header);
  return {
    ...silent,
    capture: (now, bytes) => {
      const record = Buffer.alloc(16);
      record.writeUInt32LE(Math.floor(now / 1000), 0);
      record.writeUInt32LE(Math.round((now % 1000) * 1e6), 4);
      record.writeUInt32LE(bytes.length, 8);
      record.writeUInt32LE(bytes.length, 12);
      appendFileSync(file, Buffer.concat([record, bytes]));
    },
  };
}

export function both(first: Trace, second: Trace): Trace {
  return {
    line: (now, text) => {
      first.line(now, text);
      second.line(now, text);
    },
    packet: (now, where, bytes) => {
      first.packet(now, where, bytes);
      second.packet(now, where, bytes);
    },
    note: (now, what, segment) => {
      first.note(now, what, segment);
      second.note(now, what, segment);
    },
    capture: (now, bytes) => {
      first.capture(now, bytes);
      second.capture(now, bytes);
    },
  };
}
