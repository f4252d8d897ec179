/**
 * The floors: what any rewriter behind NFQUEUE pays before it does anything, at both ends and at the same hooks as
 * tcpcrypt. `floor-accept` takes each packet whole and lets it go on, in C++. `floor-loop` is our own loop in
 * TypeScript without crypto: it finds the connection, walks the options and gives the packet back whole.
 */
import type { ChildProcess } from 'node:child_process';
import type { Host } from '../../test/kernel/support/namespaces.ts';
import { ended, saying } from '../../test/kernel/support/processes.ts';
import { type Bed, PORTS } from '../bed.ts';
import type { Row } from '../contender.ts';
import { MEASURES } from '../figures.ts';

const QUEUE = '5440';
const loop = new URL('../floor/loop.ts', import.meta.url).pathname;

type Start = (bed: Bed, host: Host) => Promise<ChildProcess>;

function floor(name: string, about: string, startOne: Start): Row {
  return {
    name,
    group: 'floor',
    about,
    measures: MEASURES.filter((measure) => measure !== 'cached'),
    async start(bed) {
      const hosts = [bed.client, bed.server];
      const children = await Promise.all(hosts.map((host) => startOne(bed, host)));
      for (const host of hosts) {
        const queue = ['-p', 'tcp', '-j', 'NFQUEUE', '--queue-num', QUEUE];
        host.run('iptables', ['-w', '-t', 'mangle', '-A', 'PREROUTING', '-i', host.device(), ...queue]);
        host.run('iptables', ['-w', '-t', 'mangle', '-A', 'POSTROUTING', '-o', host.device(), ...queue]);
      }
      const [client, server] = children.map((child) => [child.pid!]);
      return {
        to: (service) => ({ address: bed.server.address4(), port: PORTS[service] }),
        pids: { client, server },
        async [Symbol.asyncDispose]() {
          await Promise.all(children.map((child) => ended(child, 'SIGKILL')));
        },
      };
    },
  };
}

export const floors: readonly Row[] = [
  floor('floor-accept', 'accept-only NFQUEUE with GSO, in C++', (bed, host) =>
    bed.tool(host, 'accept', [QUEUE], 'ready'),
  ),
  floor('floor-loop', 'our loop without crypto: each packet given back whole', async (bed, host) => {
    const child = bed.start(host, process.execPath, [loop, QUEUE], { stdio: ['ignore', 'pipe', 'pipe'] });
    await saying(child, 'ready');
    return child;
  }),
];
