/**
 * The socket on which the plugin asks (root only): `POST /v1/cni`, and `GET /v1/healthz` for whoever looks. A call
 * that nobody waits for any more is still carried out: the pod is there.
 */
import type { Server } from 'node:http';
import { createLimitedServer, HttpProblem, readBody, sendJson, targetOf } from '../../observability/http.ts';
import { type CniRequest, parseRequest } from './request.ts';
import type { CniAnswer } from './verbs.ts';

/** The plugin's own limit, and what it adds. */
const MAX_BODY_BYTES = (1 << 20) + 65_536;
/** The kubelet starts many pods at once; each call is a connection. */
const MAX_CLIENTS = 512;

export function createPluginServer(
  answer: (request: CniRequest) => Promise<CniAnswer>,
  failed: (error: unknown) => void,
): Server {
  return createLimitedServer(
    async (request, response) => {
      const { path } = targetOf(request);
      if (path === '/v1/healthz') return sendJson(response, { status: 'ok' });
      if (path !== '/v1/cni') throw new HttpProblem(404, `there is no ${path.slice(0, 100)}`);
      if (request.method !== 'POST') throw new HttpProblem(405, 'only POST', { allow: 'POST' });
      sendJson(response, await answer(parseRequest(await readBody(request, MAX_BODY_BYTES))));
    },
    MAX_CLIENTS,
    failed,
  );
}
