/** The TCP options of a model kernel, written as Linux writes them, and read. */

import { joinOptions, listOptions } from './segment.ts';

export interface ReadOptions {
  mss?: number;
  windowScale?: number;
  sackPermitted: boolean;
  timestamps?: { value: number; echo: number };
  /** Pairs of sequence numbers. */
  sack: (readonly [number, number])[];
}

export function readOptions(options: Uint8Array): ReadOptions {
  const out: ReadOptions = { sackPermitted: false, sack: [] };
  for (const { kind, bytes } of listOptions(options)) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    if (kind === 2 && bytes.length === 4) out.mss = view.getUint16(2);
    else if (kind === 3 && bytes.length === 3) out.windowScale = Math.min(14, bytes[2]!);
    else if (kind === 4 && bytes.length === 2) out.sackPermitted = true;
    else if (kind === 8 && bytes.length === 10)
      out.timestamps = { value: view.getUint32(2), echo: view.getUint32(6) };
    else if (kind === 5) {
      for (let at = 2; at + 8 <= bytes.length; at += 8)
        out.sack.push([view.getUint32(at), view.getUint32(at + 4)]);
    }
  }
  return out;
}

export interface SynOptions {
  readonly mss: number;
  readonly sackPermitted: boolean;
  readonly timestamps: { value: number; echo: number } | undefined;
  readonly windowScale: number | undefined;
}

/** tcp_options_write's order: MSS, then SACK-permitted sharing a word with timestamps, then window scale. */
export function writeSynOptions(options: SynOptions): Uint8Array {
  const parts: Uint8Array[] = [Uint8Array.of(2, 4, options.mss >> 8, options.mss & 255)];
  if (options.timestamps !== undefined) {
    parts.push(options.sackPermitted ? Uint8Array.of(4, 2) : Uint8Array.of(1, 1));
    parts.push(timestampOption(options.timestamps));
  } else if (options.sackPermitted) {
    parts.push(Uint8Array.of(1, 1, 4, 2));
  }
  if (options.windowScale !== undefined) parts.push(Uint8Array.of(1, 3, 3, options.windowScale));
  return joinOptions(parts);
}

/** Timestamps first, then as many SACK blocks as fit 40 bytes. */
export function writeOptions(
  timestamps: { value: number; echo: number } | undefined,
  sack: readonly (readonly [number, number])[],
): Uint8Array {
  const parts: Uint8Array[] = [];
  if (timestamps !== undefined) parts.push(Uint8Array.of(1, 1), timestampOption(timestamps));
  const blocks = sack.slice(0, timestamps === undefined ? 4 : 3);
  if (blocks.length > 0) {
    const option = new Uint8Array(4 + 8 * blocks.length);
    option.set([1, 1, 5, 2 + 8 * blocks.length]);
    const view = new DataView(option.buffer);
    blocks.forEach(([from, to], i) => {
      view.setUint32(4 + 8 * i, from);
      view.setUint32(8 + 8 * i, to);
    });
    parts.push(option);
  }
  return joinOptions(parts);
}

function timestampOption(timestamps: { value: number; echo: number }): Uint8Array {
  const option = new Uint8Array(10);
  const view = new DataView(option.buffer);
  option.set([8, 10]);
  view.setUint32(2, timestamps.value);
  view.setUint32(6, timestamps.echo);
  return option;
}
