/** The webhook's HTTPS server. Whoever asks learns nothing but what would become of the pod that he sends. */
import type { Server } from 'node:https';
import { createLimitedServer, HttpProblem, readBody, sendJson, targetOf } from '../../observability/http.ts';
import { type AdmissionContext, enforce, mutate } from './admission.ts';
import { parseReview, writeReview } from './review.ts';

export const MUTATE_PATH = '/mutate';
export const ENFORCE_PATH = '/enforce';

/** An object is at most 1.5 MiB in etcd; JSON escapes take more. */
const MAX_BODY_BYTES = 4 << 20;
const MAX_CLIENTS = 1024;
/** Above the API server's own 90 s: its side must be the one that closes, or a request meets a closed connection. */
const KEEP_ALIVE_MS = 120_000;

export interface ServingPair {
  readonly certificate: string;
  readonly key: string;
}

export interface Report {
  readonly failed: (error: unknown) => void;
  readonly took: (path: string, seconds: number) => void;
}

export function createWebhookServer(context: AdmissionContext, pair: ServingPair, report: Report): Server {
  const handlers = new Map([
    [MUTATE_PATH, mutate],
    [ENFORCE_PATH, enforce],
  ]);
  const server = createLimitedServer(
    async (request, response) => {
      const { path } = targetOf(request);
      const handler = handlers.get(path);
      if (handler === undefined) throw new HttpProblem(404, `there is no ${path}`);
      if (request.method !== 'POST') throw new HttpProblem(405, 'only POST', { allow: 'POST' });
      const startedMs = performance.now();
      const review = parseReview(await readBody(request, MAX_BODY_BYTES));
      sendJson(response, writeReview(review.uid, await handler(review, context)));
      report.took(path, (performance.now() - startedMs) / 1000);
    },
    MAX_CLIENTS,
    report.failed,
    { tls: tlsOptions(pair), keepAliveTimeoutMs: KEEP_ALIVE_MS },
  );
  return server as Server;
}

export function tlsOptions({ certificate, key }: ServingPair) {
  return { cert: certificate, key, minVersion: 'TLSv1.2' as const };
}
