/** Address ranges as iptables prints them. Imports only the errors and Node's own parser of addresses. */
import { isIP } from 'node:net';
import { TcpcryptError } from '../errors/catalogue.ts';

export interface Cidr {
  readonly family: 4 | 6;
  /** Canonical: host bits zero, IPv6 compressed, the prefix length always there. */
  readonly text: string;
}

/** Reads an address with or without prefix length. Throws ERR_TCPCRYPT_USAGE. */
export function parseCidr(given: string): Cidr {
  const [address = '', length, ...rest] = given.split('/');
  const family = isIP(address);
  const bits = family === 4 ? 32 : 128;
  const prefix = length === undefined ? bits : Number(length);
  if (
    family === 0 ||
    rest.length > 0 ||
    address.includes('%') ||
    !/^\d{1,3}$/.test(length ?? '0') ||
    prefix > bits
  ) {
    throw new TcpcryptError('ERR_TCPCRYPT_USAGE', `'${given}' is no address range such as 10.0.0.0/8`);
  }
  const value = family === 4 ? parse4(address) : parse6(address);
  const network = (value >> BigInt(bits - prefix)) << BigInt(bits - prefix);
  const text = family === 4 ? format4(network) : format6(network);
  return { family: family as 4 | 6, text: `${text}/${prefix}` };
}

function parse4(address: string): bigint {
  return address.split('.').reduce((sum, part) => (sum << 8n) | BigInt(part), 0n);
}

function format4(value: bigint): string {
  return [24n, 16n, 8n, 0n].map((shift) => (value >> shift) & 0xffn).join('.');
}

/** The URL parser writes RFC 5952's form; here only the eight groups are taken from it. */
function parse6(address: string): bigint {
  const [head = '', tail] = new URL(`http://[${address}]/`).hostname.slice(1, -1).split('::');
  const groups = (text: string): string[] => (text === '' ? [] : text.split(':'));
  const before = groups(head);
  const after = tail === undefined ? [] : groups(tail);
  const zeros = Array<string>(8 - before.length - after.length).fill('0');
  return [...before, ...zeros, ...after].reduce((sum, part) => (sum << 16n) | BigInt(`0x${part}`), 0n);
}

function format6(value: bigint): string {
  const groups = Array.from({ length: 8 }, (_, i) =>
    ((value >> BigInt(112 - 16 * i)) & 0xffffn).toString(16),
  );
  return new URL(`http://[${groups.join(':')}]/`).hostname.slice(1, -1);
}
