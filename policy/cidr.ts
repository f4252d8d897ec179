/**
 * Exact matching of addresses against CIDR blocks. An IPv4 address is 4 bytes, an IPv6 address 16; an
 * IPv4-mapped IPv6 address is the IPv4 address, so that a dual-stack socket's peer matches IPv4 blocks.
 */
import { isIPv4, isIPv6 } from 'node:net';

export interface Cidr {
  /** 4 or 16 bytes; those after the prefix are zero. */
  readonly network: Uint8Array;
  readonly prefixBits: number;
}

const MAPPED_BITS = 96;

const fromIPv4 = (text: string): Uint8Array => Uint8Array.from(text.split('.'), Number);

function fromIPv6(text: string): Uint8Array {
  const dotted = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(text);
  let groups = text;
  if (dotted !== null) {
    const [a, b, c, d] = fromIPv4(dotted[2]);
    groups = `${dotted[1]}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
  }
  const [head, tail] = groups.split('::').map((half) => (half === '' ? [] : half.split(':')));
  const zeros = tail === undefined ? 0 : 8 - head.length - tail.length;
  const all = [...head, ...new Array<string>(zeros).fill('0'), ...(tail ?? [])];
  return Uint8Array.from(
    all.flatMap((group) => {
      const value = Number.parseInt(group, 16);
      return [value >> 8, value & 0xff];
    }),
  );
}

const isMapped = (bytes: Uint8Array): boolean =>
  bytes.length === 16 &&
  bytes.subarray(0, 10).every((byte) => byte === 0) &&
  bytes[10] === 0xff &&
  bytes[11] === 0xff;

function rawAddress(text: string): Uint8Array | undefined {
  if (isIPv4(text)) return fromIPv4(text);
  return isIPv6(text) && !text.includes('%') ? fromIPv6(text) : undefined;
}

/** An address as text, with or without a zone (`fe80::1%eth0`, which is left out); undefined if it is none. */
export function parseAddress(text: string): Uint8Array | undefined {
  const zone = text.indexOf('%');
  const bytes = rawAddress(zone < 0 ? text : text.slice(0, zone));
  return bytes !== undefined && isMapped(bytes) ? bytes.subarray(12) : bytes;
}

/** `address/prefix`; bits after the prefix are cleared. Undefined if it is none. */
export function parseCidr(text: string): Cidr | undefined {
  const match = /^([^/]+)\/(0|[1-9]\d{0,2})$/.exec(text);
  const bytes = match === null ? undefined : rawAddress(match[1]);
  if (match === null || bytes === undefined) return undefined;
  const prefixBits = Number(match[2]);
  if (prefixBits > bytes.length * 8) return undefined;
  return prefixBits >= MAPPED_BITS && isMapped(bytes)
    ? block(bytes.subarray(12), prefixBits - MAPPED_BITS)
    : block(bytes, prefixBits);
}

function block(address: Uint8Array, prefixBits: number): Cidr {
  const network = address.slice();
  for (let i = 0; i < network.length; i++) network[i] &= maskAt(i, prefixBits);
  return { network, prefixBits };
}

/** The mask of byte `i` of an address under a prefix. */
const maskAt = (i: number, prefixBits: number): number =>
  (0xff00 >> Math.min(8, Math.max(0, prefixBits - i * 8))) & 0xff;

/** Whether an address from `parseAddress` lies in the block. */
export function contains({ network, prefixBits }: Cidr, address: Uint8Array): boolean {
  if (address.length !== network.length) return false;
  for (let i = 0; i * 8 < prefixBits; i++) {
    if ((address[i] & maskAt(i, prefixBits)) !== network[i]) return false;
  }
  return true;
}

/** Whether the whole of `inner` lies in `outer`. */
export const within = (inner: Cidr, outer: Cidr): boolean =>
  inner.prefixBits >= outer.prefixBits && contains(outer, inner.network);

/** The block as text, IPv6 in full. */
export function formatCidr({ network, prefixBits }: Cidr): string {
  if (network.length === 4) return `${network.join('.')}/${prefixBits}`;
  const groups = Array.from({ length: 8 }, (_, i) =>
    ((network[2 * i] << 8) | network[2 * i + 1]).toString(16),
  );
  return `${groups.join(':')}/${prefixBits}`;
}
