/** Ends of connections as people and programs write them, into the form that the rewriter uses. */
import { TcpcryptError } from '../../errors/catalogue.ts';
import { parseAddress } from '../../policy/cidr.ts';
import { formatEndpoint } from '../wire/packet.ts';

/**
 * `10.0.0.1:443` or `[fd00::1]:443`; an IPv4-mapped IPv6 address is the IPv4 one. Throws
 * ERR_TCPCRYPT_BAD_REQUEST; `what` names the argument in its message.
 */
export function parseEndpoint(text: string, what: string): string {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const address = match === null ? undefined : parseAddress(match[1] ?? match[2]!);
  const port = Number(match?.[3]);
  if (address === undefined || !(port >= 1 && port <= 65_535)) {
    const message = `${what}: ${JSON.stringify(text)} is not address:port, as 10.0.0.1:443 or [fd00::1]:443`;
    throw new TcpcryptError('ERR_TCPCRYPT_BAD_REQUEST', message);
  }
  return formatEndpoint(address, port);
}
