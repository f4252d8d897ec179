/**
 * The end of the process without the end of a connection's data: the kernel still has the last bytes that the
 * application wrote, and only this process can encrypt them. So it serves on until they are acknowledged.
 */
import { setTimeout } from 'node:timers/promises';
import type { ConnectionInfo, Policy, SocketInfo } from '../rewriter/types.ts';

const LOOK_EVERY_MS = 100;

/** New connections go plain while we leave, except where policy never lets them. */
export function drainingPolicy(policy: Policy): Policy {
  return {
    ...policy,
    decide: (direction, port, peer) => {
      const decision = policy.decide(direction, port, peer);
      return decision.mode === 'Strict' ? decision : { ...decision, mode: 'Disabled' };
    },
  };
}

export interface DrainPart {
  connections(): AsyncIterable<readonly Pick<ConnectionInfo, 'local' | 'remote' | 'state'>[]>;
  sockets(): readonly SocketInfo[];
}

/** Encrypted connections, and those on the way there, whose socket has data that is not acknowledged. A FIN counts. */
export async function unfinished({ connections, sockets }: DrainPart): Promise<number> {
  const busy = new Set<string>();
  for (const { local, remote, sendQueueBytes, state } of sockets()) {
    if (sendQueueBytes > 0 && state !== LISTEN) busy.add(`${local} ${remote}`);
  }
  let count = 0;
  if (busy.size === 0) return count;
  for await (const chunk of connections()) {
    for (const { local, remote, state } of chunk) {
      if (state !== 'plain' && busy.has(`${local} ${remote}`)) count++;
    }
  }
  return count;
}

const LISTEN = 10;

/** Returns how many connections were left unfinished when the time was over. */
export async function untilFinished(part: DrainPart, graceMs: number): Promise<number> {
  const end = performance.now() + graceMs;
  for (;;) {
    const left = await unfinished(part);
    if (left === 0 || performance.now() >= end) return left;
    await setTimeout(LOOK_EVERY_MS);
  }
}
