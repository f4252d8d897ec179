/**
 * The local API: HTTP over Unix sockets (`docs/api.yaml`). The application's socket may be opened by anybody who
 * can reach it: reading connections and session IDs (neither is secret), and saying that a port's application
 * knows of tcpcrypt. The control socket is its owner's and can do more. Knows nothing of threads or queues:
 * what it asks for comes through `Backend`.
 */
import { once } from 'node:events';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { TcpcryptError } from '../../errors/catalogue.ts';
import {
  createLimitedServer,
  HttpProblem,
  readBody,
  send,
  sendJson,
  targetOf,
} from '../../observability/http.ts';
import type { Listed } from '../protocol/negative-list.ts';
import type { AppSupport, ConnectionInfo } from '../rewriter/types.ts';
import { dateOf, monotonicMs } from './clock.ts';
import { parseEndpoint } from './endpoint.ts';
import { parseListed, toApiListed } from './shared-list.ts';

export interface Backend {
  connections(ends?: { local?: string; remote?: string }): AsyncIterable<readonly ConnectionInfo[]>;
  setAppSupport(port: number, support: AppSupport): Promise<void>;
  flushSessionCache(): Promise<void>;
  /** Takes other sidecars' entries, returns this one's. */
  shareNegativeList(entries: readonly Listed[]): Promise<readonly Listed[]>;
  /** Whether packets are handled. */
  healthy(): boolean;
  metrics(): Promise<string>;
  /** Throws ERR_TCPCRYPT_POLICY_INVALID. */
  setPolicy(text: string): Promise<{ generation: string; warnings: readonly string[] }>;
  /** Throws ERR_TCPCRYPT_KEYS_INVALID. */
  setKeys(text: string): Promise<{ keyIds: readonly string[]; warnings: readonly string[] }>;
  version(): Readonly<Record<string, string | number>>;
}

/** A connection as the API shows it. */
export type ApiConnection = Omit<ConnectionInfo, 'openedAtMs'> & { readonly openedAt: string };

const MAX_CLIENTS = 64;
const MAX_SMALL_BODY_BYTES = 1024;
const MAX_DOCUMENT_BYTES = 1 << 20;
const MAX_LIST_BYTES = 1 << 17;
const supports: readonly AppSupport[] = ['none', 'support', 'mandatory'];

interface Call {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly query: URLSearchParams;
  /** What the path's group matched. */
  readonly argument: string;
  readonly backend: Backend;
}

interface Route {
  readonly method: 'GET' | 'PUT' | 'DELETE';
  readonly path: RegExp;
  readonly controlOnly?: true;
  readonly handle: (call: Call) => Promise<void>;
}

export const routes: readonly Route[] = [
  { method: 'GET', path: /^\/v1\/healthz$/, handle: getHealth },
  { method: 'GET', path: /^\/v1\/connections$/, handle: getConnections },
  { method: 'GET', path: /^\/v1\/sessions$/, handle: getSession },
  { method: 'PUT', path: /^\/v1\/app-support\/([^/]+)$/, handle: putAppSupport },
  { method: 'DELETE', path: /^\/v1\/session-cache$/, handle: deleteSessionCache },
  { method: 'GET', path: /^\/v1\/metrics$/, handle: getMetrics },
  { method: 'GET', path: /^\/v1\/version$/, handle: getVersion },
  { method: 'PUT', path: /^\/v1\/policy$/, handle: putPolicy, controlOnly: true },
  { method: 'PUT', path: /^\/v1\/keys$/, handle: putKeys, controlOnly: true },
  { method: 'PUT', path: /^\/v1\/negative-list$/, handle: putNegativeList, controlOnly: true },
];

export function createApi(
  kind: 'application' | 'control',
  backend: Backend,
  failed: (error: unknown) => void,
): Server {
  const allowed = routes.filter((route) => kind === 'control' || !route.controlOnly);
  return createLimitedServer(
    async (request, response) => {
      const { path, query } = targetOf(request);
      const here = allowed.filter((route) => route.path.test(path));
      const route = here.find(({ method }) => method === request.method);
      if (here.length === 0) throw new HttpProblem(404, `there is no ${path}`);
      if (route === undefined) {
        const allow = here.map(({ method }) => method).join(', ');
        throw new HttpProblem(405, `${path} knows ${allow} only`, { allow });
      }
      const argument = route.path.exec(path)?.[1] ?? '';
      await route.handle({ request, response, query, argument, backend });
    },
    MAX_CLIENTS,
    failed,
  );
}

export function toApiConnection({ openedAtMs, ...rest }: ConnectionInfo): ApiConnection {
  return { ...rest, openedAt: dateOf(openedAtMs).toISOString() };
}

async function getHealth({ response, backend }: Call): Promise<void> {
  if (!backend.healthy()) throw new HttpProblem(503, 'packets are not handled');
  sendJson(response, { status: 'ok' });
}

/** Written as it comes, and no faster than the client reads. */
async function getConnections({ response, backend }: Call): Promise<void> {
  response.setHeader('content-type', 'application/json');
  let separator = '{"connections":[';
  for await (const chunk of backend.connections()) {
    const text = chunk.map((connection) => JSON.stringify(toApiConnection(connection))).join(',\n');
    if (text === '') continue;
    if (response.destroyed) return;
    if (!response.write(separator + text))
      await Promise.race([once(response, 'drain'), once(response, 'close')]);
    separator = ',\n';
  }
  response.end(separator.startsWith('{') ? `${separator}]}\n` : ']}\n');
}

async function getSession({ response, query, backend }: Call): Promise<void> {
  const local = parseEndpoint(query.get('local') ?? '', 'local');
  const remote = parseEndpoint(query.get('remote') ?? '', 'remote');
  let found: ConnectionInfo | undefined;
  for await (const chunk of backend.connections({ local, remote })) found ??= chunk[0];
  if (found === undefined) {
    throw new TcpcryptError('ERR_TCPCRYPT_CONNECTION_UNKNOWN', `no connection from ${local} to ${remote}`);
  }
  if (found.sessionId === undefined) {
    const why = found.reason === undefined ? '' : ` (${found.reason})`;
    throw new TcpcryptError('ERR_TCPCRYPT_NOT_ENCRYPTED', `the connection is ${found.state}${why}`);
  }
  sendJson(response, toApiConnection(found));
}

async function putAppSupport({ request, response, argument, backend }: Call): Promise<void> {
  const port = /^\d{1,5}$/.test(argument) ? Number(argument) : 0;
  if (port < 1 || port > 65_535) throw new HttpProblem(400, `${JSON.stringify(argument)} is no port`);
  const { support } = parseObject(await readBody(request, MAX_SMALL_BODY_BYTES));
  const known = supports.find((name) => name === support);
  if (known === undefined) throw new HttpProblem(400, `support must be one of ${supports.join(', ')}`);
  await backend.setAppSupport(port, known);
  response.writeHead(204).end();
}

async function deleteSessionCache({ response, backend }: Call): Promise<void> {
  await backend.flushSessionCache();
  response.writeHead(204).end();
}

async function getMetrics({ response, backend }: Call): Promise<void> {
  send(response, 200, 'text/plain; version=0.0.4; charset=utf-8', await backend.metrics());
}

async function getVersion({ response, backend }: Call): Promise<void> {
  sendJson(response, backend.version());
}

async function putPolicy({ request, response, backend }: Call): Promise<void> {
  sendJson(response, await backend.setPolicy(await readBody(request, MAX_DOCUMENT_BYTES)));
}

async function putKeys({ request, response, backend }: Call): Promise<void> {
  sendJson(response, await backend.setKeys(await readBody(request, MAX_DOCUMENT_BYTES)));
}

async function putNegativeList({ request, response, backend }: Call): Promise<void> {
  const { entries } = parseObject(await readBody(request, MAX_LIST_BYTES));
  const now = monotonicMs();
  const own = await backend.shareNegativeList(parseListed(entries, now));
  sendJson(response, { entries: toApiListed(own, now) });
}

function parseObject(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>;
  } catch {
    // Said below.
  }
  throw new HttpProblem(400, 'the body must be a JSON object');
}
