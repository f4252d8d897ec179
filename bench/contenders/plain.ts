/** TCP as it is: what every other row is compared with. */
import { PORTS } from '../bed.ts';
import type { Row } from '../contender.ts';

export const plain: Row = {
  name: 'plain',
  group: 'plain',
  about: 'TCP, no encryption',
  // It needs no process, and knows no sessions.
  measures: ['throughput', 'new', 'latency'],
  async start(bed) {
    return {
      to: (service) => ({ address: bed.server.address4(), port: PORTS[service] }),
      pids: { client: [], server: [] },
      async [Symbol.asyncDispose]() {},
    };
  },
};
