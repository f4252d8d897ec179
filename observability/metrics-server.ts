/** The metrics' port: `/metrics`, `/healthz` (the part does its work) and `/readyz` (and takes new work). */
import { once } from 'node:events';
import type { Server } from 'node:http';
import { TcpcryptError } from '../errors/catalogue.ts';
import { createLimitedServer, HttpProblem, send, targetOf } from './http.ts';

export interface MetricsSource {
  text(): Promise<string>;
  healthy(): boolean;
  ready(): boolean;
}

export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

const MAX_CLIENTS = 32;

/** `10.0.0.1:80`, `[::]:80`, `:80` (every address), or `none`. Throws ERR_TCPCRYPT_USAGE. */
export function parseListenAddress(value: string): ListenAddress | undefined {
  if (value === 'none') return undefined;
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(value);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) {
    throw new TcpcryptError('ERR_TCPCRYPT_USAGE', `--metrics-listen ${value} is not ADDR:PORT or none`);
  }
  return { host: match[1] ?? (match[2] || '::'), port };
}

export function createMetricsServer(source: MetricsSource, failed: (error: unknown) => void): Server {
  return createLimitedServer(
    async (request, response) => {
      if (request.method !== 'GET' && request.method !== 'HEAD') {
        throw new HttpProblem(405, 'only GET', { allow: 'GET, HEAD' });
      }
      const { path } = targetOf(request);
      switch (path) {
        case '/metrics':
          return send(response, 200, 'text/plain; version=0.0.4; charset=utf-8', await source.text());
        case '/healthz':
          return state(source.healthy());
        case '/readyz':
          return state(source.healthy() && source.ready());
        default:
          throw new HttpProblem(404, `there is no ${path}`);
      }
      function state(good: boolean): void {
        if (!good) throw new HttpProblem(503, 'not now; see the log');
        send(response, 200, 'text/plain', 'ok\n');
      }
    },
    MAX_CLIENTS,
    failed,
  );
}

/** Listens; where the machine has no IPv6 and the address is its wildcard, on IPv4's. Rejects if it cannot. */
export async function listenOnPort(server: Server, { host, port }: ListenAddress): Promise<void> {
  try {
    server.listen(port, host);
    await once(server, 'listening');
  } catch (error) {
    const noIpv6 = ['EAFNOSUPPORT', 'EADDRNOTAVAIL'].includes((error as NodeJS.ErrnoException).code ?? '');
    if (!noIpv6 || host !== '::') throw error;
    await listenOnPort(server, { host: '0.0.0.0', port });
  }
}
