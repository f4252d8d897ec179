/** The negative list as the control socket has it: the agent's part comes from many pods, so it is checked. */
import { HttpProblem } from '../../observability/http.ts';
import { parseAddress } from '../../policy/cidr.ts';
import { type Listed, MAX_SHARED } from '../protocol/negative-list.ts';
import { formatAddress } from '../wire/packet.ts';

interface ApiListed {
  readonly address: string;
  readonly forSeconds: number;
}

/** As many of its own as a sidecar tells, the newest. */
const MAX_TOLD = 256;
/** As long as an entry can last: a day. */
const MAX_SECONDS = 86_400;

/** `entries` of a request's body, any JSON. Throws a problem of status 400, and then nothing is taken. */
export function parseListed(entries: unknown, now: number): Listed[] {
  if (!Array.isArray(entries) || entries.length > MAX_SHARED)
    throw new HttpProblem(400, `entries must be a list of ${MAX_SHARED} at most`);
  return entries.map((entry) => {
    const { address, forSeconds } = Object(entry) as Record<string, unknown>;
    const bytes = typeof address === 'string' ? parseAddress(address) : undefined;
    if (bytes === undefined) throw new HttpProblem(400, 'an entry has no IP address');
    if (typeof forSeconds !== 'number' || !(forSeconds > 0 && forSeconds <= MAX_SECONDS))
      throw new HttpProblem(400, `forSeconds must be a number up to ${MAX_SECONDS}`);
    return { peer: formatAddress(bytes), untilMs: now + 1000 * forSeconds };
  });
}

export function toApiListed(entries: readonly Listed[], now: number): ApiListed[] {
  return entries.slice(-MAX_TOLD).map(({ peer, untilMs }) => ({
    address: peer,
    forSeconds: Math.max(1, Math.round((untilMs - now) / 1000)),
  }));
}
