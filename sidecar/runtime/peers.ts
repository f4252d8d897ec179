/** Which class of peers an address belongs to (interfaces.md, "Metrics"): a label must never be an address. */
import { TcpcryptError } from '../../errors/catalogue.ts';
import { type Cidr, contains, parseAddress, parseCidr } from '../../policy/cidr.ts';
import type { PeerClass } from '../rewriter/types.ts';

/** An address alone counts as the block of that address. Throws ERR_TCPCRYPT_USAGE. */
export function parseBlocks(texts: readonly string[]): Cidr[] {
  return texts.map((text) => {
    const cidr = parseCidr(text.includes('/') ? text : `${text}/${text.includes(':') ? 128 : 32}`);
    if (cidr === undefined)
      throw new TcpcryptError('ERR_TCPCRYPT_USAGE', `${text} is no CIDR block or address`);
    return cidr;
  });
}

/** The address of `address:port`, without the brackets of IPv6. */
export function addressOf(endpoint: string): string {
  return endpoint.slice(0, endpoint.lastIndexOf(':')).replace(/^\[(.*)\]$/, '$1');
}

export type Classify = (remote: string, known: boolean) => PeerClass;

/** `known` first: an address that has spoken tcpcrypt lately is that, wherever it is. */
export function createClassifier(cluster: readonly Cidr[], nodes: readonly Cidr[]): Classify {
  return (remote, known) => {
    if (known) return 'known';
    const address = parseAddress(addressOf(remote));
    if (address === undefined) return 'external';
    const within = (blocks: readonly Cidr[]): boolean => blocks.some((block) => contains(block, address));
    if (within(nodes)) return 'node';
    return within(cluster) ? 'cluster' : 'external';
  };
}
