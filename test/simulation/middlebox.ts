/**
 * What a middlebox does to every segment alike: rewrites initial sequence numbers (SACK edges included),
 * timestamps, addresses and ports; and how one takes options out that it does not know.
 */

import type { Way } from './path.ts';
import { ACK, joinOptions, listOptions, type Segment } from './segment.ts';

const KNOWN = new Set([2, 3, 4, 5, 8]);

/** The segment without unknown options; the same object when it has none. */
export function stripOptions(segment: Segment, cut: boolean): Segment {
  const all = listOptions(segment.options);
  const kept = all.filter((option) => KNOWN.has(option.kind));
  if (kept.length === all.length) return segment;
  if (cut) return { ...segment, options: joinOptions(kept.map((option) => option.bytes)) };
  const options = segment.options.slice();
  for (const option of all) {
    if (KNOWN.has(option.kind)) continue;
    const at = option.bytes.byteOffset - segment.options.byteOffset;
    options.fill(1, at, at + option.bytes.length);
  }
  return { ...segment, options };
}

export interface Translation {
  /** Added to the sequence numbers of each way. */
  readonly isn: { readonly [way in Way]: number };
  /** Added to TSval of each way. */
  readonly timestamps: { readonly [way in Way]: number };
  /** Host a's address and the shift of its ports as host b sees them. */
  readonly nat: { readonly inside: string; readonly outside: string; readonly portShift: number } | undefined;
}

export class Middlebox {
  readonly translation: Translation;

  constructor(translation: Translation) {
    this.translation = translation;
  }

  translate(way: Way, segment: Segment): Segment {
    const { isn, timestamps, nat } = this.translation;
    const back = way === 'ab' ? 'ba' : 'ab';
    let out = segment;
    if (isn.ab !== 0 || isn.ba !== 0) {
      const acked = (segment.flags & ACK) !== 0;
      out = {
        ...out,
        seq: (out.seq + isn[way]) >>> 0,
        ack: acked ? (out.ack - isn[back]) >>> 0 : out.ack,
        options: editOption(out.options, 5, (view) => {
          for (let at = 2; at < view.byteLength; at += 4) view.setUint32(at, view.getUint32(at) - isn[back]);
        }),
      };
    }
    if (timestamps.ab !== 0 || timestamps.ba !== 0) {
      const options = editOption(out.options, 8, (view) => {
        view.setUint32(2, view.getUint32(2) + timestamps[way]);
        if (out.flags & ACK) view.setUint32(6, view.getUint32(6) - timestamps[back]);
      });
      out = { ...out, options };
    }
    if (nat !== undefined) {
      if (way === 'ab' && out.src === nat.inside)
        out = { ...out, src: nat.outside, sport: out.sport + nat.portShift };
      if (way === 'ba' && out.dst === nat.outside)
        out = { ...out, dst: nat.inside, dport: out.dport - nat.portShift };
    }
    return out;
  }
}

function editOption(options: Uint8Array, kind: number, edit: (view: DataView) => void): Uint8Array {
  const copy = options.slice();
  for (const option of listOptions(copy)) {
    if (option.kind === kind) edit(new DataView(copy.buffer, option.bytes.byteOffset, option.bytes.length));
  }
  return copy;
}
