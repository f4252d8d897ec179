/**
 * What the HTTP servers share (the API's, the metrics', the webhook's): limits that keep a careless or hostile client from
 * costing more than its own connection, and problem documents (RFC 9457) for every error.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer, type ServerOptions } from 'node:https';
import { catalogue, type ErrorCode, TcpcryptError } from '../errors/catalogue.ts';

const MAX_HEADER_BYTES = 8192;
const HEADERS_TIMEOUT_MS = 5000;
const REQUEST_TIMEOUT_MS = 10_000;
const KEEP_ALIVE_TIMEOUT_MS = 5000;
/** A client that does not read its answer. */
const IDLE_TIMEOUT_MS = 30_000;

export type Handler = (request: IncomingMessage, response: ServerResponse) => Promise<void>;

const statuses: Partial<Record<ErrorCode, number>> = {
  ERR_TCPCRYPT_BAD_REQUEST: 400,
  ERR_TCPCRYPT_CONNECTION_UNKNOWN: 404,
  ERR_TCPCRYPT_NOT_ENCRYPTED: 409,
  ERR_TCPCRYPT_POLICY_INVALID: 422,
  ERR_TCPCRYPT_KEYS_INVALID: 422,
};

/** A status of HTTP's own, which a code alone does not tell. From 500 on it is our fault, else the client's. */
export class HttpProblem extends TcpcryptError {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  constructor(status: number, message: string, headers: Readonly<Record<string, string>> = {}) {
    super(status >= 500 ? 'ERR_TCPCRYPT_INTERNAL' : 'ERR_TCPCRYPT_BAD_REQUEST', message);
    this.status = status;
    this.headers = headers;
  }
}

export function createLimitedServer(
  handler: Handler,
  maxClients: number,
  failed: (error: unknown) => void,
  { tls, keepAliveTimeoutMs }: { tls?: ServerOptions; keepAliveTimeoutMs?: number } = {},
): Server {
  const limits = {
    maxHeaderSize: MAX_HEADER_BYTES,
    headersTimeout: HEADERS_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: keepAliveTimeoutMs ?? KEEP_ALIVE_TIMEOUT_MS,
    connectionsCheckingInterval: HEADERS_TIMEOUT_MS,
  };
  const answer = (request: IncomingMessage, response: ServerResponse): void => {
    handler(request, response).catch((error: unknown) => {
      if (!(error instanceof TcpcryptError)) failed(error);
      if (response.headersSent) response.destroy();
      else sendProblem(response, error);
    });
  };
  const server = tls ? createTlsServer({ ...limits, ...tls }, answer) : createServer(limits, answer);
  server.maxConnections = maxClients;
  server.setTimeout(IDLE_TIMEOUT_MS);
  server.unref();
  return server;
}

/** Path and query of a request. Not through URL, which takes `//x` for a host. */
export function targetOf({ url = '/' }: IncomingMessage): { path: string; query: URLSearchParams } {
  const [path = '/', ...rest] = url.split('?');
  return { path, query: new URLSearchParams(rest.join('?')) };
}

export function sendJson(response: ServerResponse, value: unknown): void {
  send(response, 200, 'application/json', `${JSON.stringify(value)}\n`);
}

export function send(response: ServerResponse, status: number, type: string, body: string): void {
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body) });
  response.end(body);
}

/** `type` is a tag URI (RFC 4151): it names the error and leads nowhere. What is not ours says nothing of itself. */
function sendProblem(response: ServerResponse, error: unknown): void {
  const known = error instanceof TcpcryptError ? error : undefined;
  const code = known?.code ?? 'ERR_TCPCRYPT_INTERNAL';
  const status = error instanceof HttpProblem ? error.status : (statuses[code] ?? 500);
  if (error instanceof HttpProblem) {
    for (const [name, value] of Object.entries(error.headers)) response.setHeader(name, value);
  }
  const type = `tag:tcpcrypt.io,2026:${code}`;
  const detail = known?.message ?? 'see the log of tcpcrypt';
  const problem = { type, title: catalogue[code], status, detail, code };
  // The rest of a body that was refused is not read.
  if (!response.req.complete) response.setHeader('connection', 'close');
  send(response, status, 'application/problem+json', `${JSON.stringify(problem)}\n`);
}

/** The whole body as text. Throws 413 if it is longer than `maxBytes`. */
export async function readBody(request: IncomingMessage, maxBytes: number): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request.iterator({ destroyOnReturn: false })) {
    length += (chunk as Buffer).length;
    if (length > maxBytes) throw new HttpProblem(413, `the body is longer than ${maxBytes} bytes`);
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks).toString('utf8');
}
