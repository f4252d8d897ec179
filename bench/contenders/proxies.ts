/**
 * Pairs of proxies that carry TCP in mutual TLS 1.3, as the sidecars of a mesh do: haproxy, stunnel, and forwarders on
 * Go's crypto/tls. The client's takes plain TCP on loopback, the server's gives it on loopback. All use certificates
 * on P-256, X25519 and AES-128-GCM: what is fastest for them, and as strong as our own default suite.
 */
import type { ChildProcess } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Host } from '../../test/kernel/support/namespaces.ts';
import { ended } from '../../test/kernel/support/processes.ts';
import { type Bed, MOST_CONNECTIONS, PORTS, SERVICES, type Service } from '../bed.ts';
import { type Certificates, makeCertificates } from '../certificates.ts';
import type { Part, Row, Running, Sessions } from '../contender.ts';
import { MEASURES } from '../figures.ts';

/** One end of a pair: what it listens on and where it connects to, for each service. */
interface End {
  readonly side: 'client' | 'server';
  readonly routes: readonly { readonly service: Service; readonly from: string; readonly to: string }[];
  readonly resume: boolean;
  readonly certificates: Certificates;
  readonly folder: string;
}

interface Proxy {
  readonly name: string;
  readonly about: string;
  readonly part: Part;
  /** Writes what the program needs and returns how to start it. */
  command(end: End): readonly [string, ...string[]];
}

const nearPort = (service: Service): number => 10_000 + PORTS[service];
const farPort = (service: Service): number => 20_000 + PORTS[service];
const TLS13_SUITE = 'TLS_AES_128_GCM_SHA256';

function haproxy(threads: number): Proxy {
  return {
    name: `haproxy-${threads}`,
    about: `haproxy pair, mutual TLS 1.3, ${threads} thread${threads > 1 ? 's' : ''}`,
    part: 'haproxy',
    command({ side, routes, resume, certificates: { pem, ca }, folder }) {
      const tls = `ssl crt ${pem} ca-file ${ca} verify required ssl-min-ver TLSv1.3 ciphersuites ${TLS13_SUITE}`;
      const again = resume ? '' : side === 'client' ? ' no-ssl-reuse no-tls-tickets' : ' no-tls-tickets';
      const listen = routes.map(({ service, from, to }) =>
        side === 'client'
          ? `listen ${service}\n  bind ${from}\n  server peer ${to} ${tls}${again} verifyhost bench`
          : `listen ${service}\n  bind ${from} ${tls}${again}\n  server application ${to}`,
      );
      const limits = 'timeout connect 10s\n  timeout client 1h\n  timeout server 1h';
      const text = [
        `global\n  nbthread ${threads}\n  maxconn ${MOST_CONNECTIONS}`,
        `defaults\n  mode tcp\n  maxconn ${MOST_CONNECTIONS}\n  ${limits}`,
        ...listen,
      ];
      const file = join(folder, `haproxy-${side}.cfg`);
      writeFileSync(file, `${text.join('\n')}\n`);
      return ['haproxy', '-db', '-f', file];
    },
  };
}

const stunnel: Proxy = {
  name: 'stunnel',
  about: 'stunnel pair, mutual TLS 1.3',
  part: 'stunnel',
  command({ side, routes, resume, certificates: { cert, key, ca }, folder }) {
    const text = [
      ...[
        'foreground = yes',
        'pid =',
        'debug = err',
        'sslVersion = TLSv1.3',
        `ciphersuites = ${TLS13_SUITE}`,
      ],
      ...[`cert = ${cert}`, `key = ${key}`, `CAfile = ${ca}`, 'verifyChain = yes', 'curves = X25519'],
      ...(resume ? [] : ['sessionResume = no', 'options = NO_TICKET']),
      ...(side === 'client' ? ['client = yes'] : []),
      ...routes.map(({ service, from, to }) => `[${service}]\naccept = ${from}\nconnect = ${to}`),
    ];
    const file = join(folder, `stunnel-${side}.conf`);
    writeFileSync(file, `${text.join('\n')}\n`);
    return ['stunnel4', file];
  },
};

const forwarder: Proxy = {
  name: 'go-tls',
  about: "forwarder pair on Go's crypto/tls, mutual TLS 1.3",
  part: 'forwarder',
  command({ side, routes, resume, certificates: { cert, key, ca } }) {
    const paths = routes.map(({ from, to }) => `${from}=${to}`);
    const binary = new URL('../../.cache/bench/bin/forwarder', import.meta.url).pathname;
    return [binary, side, cert, key, ca, resume ? 'resume' : 'no-resume', ...paths];
  },
};

function startEnd(bed: Bed, host: Host, proxy: Proxy, end: End): Promise<ChildProcess> {
  const [command, ...args] = proxy.command(end);
  return bed.program(host, command, args, () => {
    const listening = host.run('ss', ['-Hltn']).stdout;
    return end.routes.every(({ from }) => listening.includes(`${from} `));
  });
}

async function startPair(bed: Bed, proxy: Proxy, sessions: Sessions): Promise<Running> {
  const certificates = makeCertificates(bed.folder);
  const common = { resume: sessions === 'cached', certificates, folder: bed.folder };
  const far = (service: Service): string => `${bed.server.address4()}:${farPort(service)}`;
  const near = (service: Service): string => `127.0.0.1:${nearPort(service)}`;
  const server = await startEnd(bed, bed.server, proxy, {
    ...{ side: 'server', ...common },
    routes: SERVICES.map((service) => ({
      service,
      from: far(service),
      to: `127.0.0.1:${PORTS[service]}`,
    })),
  });
  const client = await startEnd(bed, bed.client, proxy, {
    ...{ side: 'client', ...common },
    routes: SERVICES.map((service) => ({ service, from: near(service), to: far(service) })),
  });
  return {
    to: (service) => ({ address: '127.0.0.1', port: nearPort(service) }),
    pids: { client: [client.pid!], server: [server.pid!] },
    async [Symbol.asyncDispose]() {
      await Promise.all([ended(client, 'SIGKILL'), ended(server, 'SIGKILL')]);
    },
  };
}

export const proxies: readonly Row[] = [haproxy(1), haproxy(2), stunnel, forwarder].map((proxy) => ({
  name: proxy.name,
  group: 'proxy',
  about: proxy.about,
  part: proxy.part,
  measures: MEASURES,
  start: (bed, sessions) => startPair(bed, proxy, sessions),
}));
