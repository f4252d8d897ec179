// Packets bytes[start, end) that are changed where they lie in a larger buffer: IP without options or extension
// headers, TCP from `tcp`, data from `dataAt`. The caller has checked all that (rewriter/fast-path.ts does).

import { write16 } from './bytes.ts';
import { onesComplementSum } from './checksum.ts';
import { IPV4_HEADER_BYTES, IPV6_HEADER_BYTES, PROTOCOL_TCP } from './packet.ts';

/** The sum of the TCP pseudo-header (RFC 9293 section 3.1, RFC 8200 section 8.1). */
export function pseudoHeaderSumAt(bytes: Uint8Array, start: number, tcp: number, end: number): number {
  const addresses = start + (tcp - start === IPV4_HEADER_BYTES ? 12 : 8);
  return onesComplementSum(bytes, addresses, tcp, PROTOCOL_TCP + end - tcp);
}

/** The sum of the data of a packet whose TCP checksum is right, told by its header. */
export function dataSumAt(
  bytes: Uint8Array,
  start: number,
  tcp: number,
  dataAt: number,
  end: number,
): number {
  return 0xffff - onesComplementSum(bytes, tcp, dataAt, pseudoHeaderSumAt(bytes, start, tcp, end));
}

/** Makes the lengths and checksums right; `dataSum` is the sum of the data. */
export function completeAt(
  bytes: Uint8Array,
  start: number,
  tcp: number,
  dataAt: number,
  end: number,
  dataSum: number,
): void {
  if (tcp - start === IPV4_HEADER_BYTES) {
    write16(bytes, start + 2, end - start);
    const head = onesComplementSum(bytes, start, start + 10);
    write16(bytes, start + 10, ~onesComplementSum(bytes, start + 12, tcp, head));
  } else {
    write16(bytes, start + 4, end - start - IPV6_HEADER_BYTES);
  }
  const head = onesComplementSum(bytes, tcp, tcp + 16, dataSum + pseudoHeaderSumAt(bytes, start, tcp, end));
  write16(bytes, tcp + 16, ~onesComplementSum(bytes, tcp + 18, dataAt, head));
}
