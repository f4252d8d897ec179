/** Two hosts and what stands between them. */
import type { ChildProcess } from 'node:child_process';
import type { Host, Lab, LinkOptions } from './namespaces.ts';
import { startServer } from './transfer.ts';

export const PORT = 8080;
/** The server here speaks first. */
export const GREETING_PORT = 8081;
export const GREETING = 200;

export interface Path {
  readonly client: Host;
  readonly router: Host;
  readonly server: Host;
}

/** client — router — server, with servers of `peer.ts` on PORT and GREETING_PORT. */
export async function makePath(lab: Lab, options: LinkOptions = {}): Promise<Path> {
  const client = lab.host('client');
  const router = lab.host('router');
  const server = lab.host('server');
  lab.router(client, router, server, options);
  await startServers(server);
  reach(client, server);
  return { client, router, server };
}

/** client — router — far router — server, with a hop of another MTU in the middle. */
export async function makeNarrowPath(lab: Lab, mtu: number): Promise<Path & { readonly far: Host }> {
  const [client, router, far, server] = ['client', 'router', 'far', 'server'].map((name) => lab.host(name));
  lab.link(client, router);
  const v6 = mtu >= 1280;
  lab.link(router, far, v6 ? { mtu } : { mtu, v6: false });
  lab.link(server, far);
  for (const each of [router, far]) {
    each.sysctl('net.ipv4.ip_forward', 1);
    each.sysctl('net.ipv6.conf.all.forwarding', 1);
  }
  for (const [host, link, next, its] of [
    [client, 0, router, 0],
    [router, 1, far, 0],
    [far, 0, router, 1],
    [server, 0, far, 1],
  ] as const) {
    host.ip('route', 'add', 'default', 'via', next.address4(its), 'dev', host.device(link));
    if (v6) host.ip('-6', 'route', 'add', 'default', 'via', next.address6(its), 'dev', host.device(link));
  }
  await startServers(server);
  reach(client, server, v6);
  return { client, router, far, server };
}

const startServers = (server: Host): Promise<ChildProcess[]> =>
  Promise.all([
    startServer(server, { port: PORT }),
    startServer(server, { port: GREETING_PORT, greeting: GREETING }),
  ]);

/** Neighbours are found once, before anything is measured; a SYN lost for that would make a connection plain. */
function reach(client: Host, server: Host, v6 = true): void {
  for (const address of v6 ? [server.address4(), server.address6()] : [server.address4()]) {
    const found = client.run('timeout', ['5', 'bash', '-c', `: </dev/tcp/${address}/${PORT}`], {
      allowFailure: true,
    });
    if (found.status !== 0) throw new Error(`${address} cannot be reached: ${found.stderr}`);
  }
}
