import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request as httpsRequest } from 'node:https';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { makePair } from '../certificates/pair.ts';
import { podOf } from '../injection/testing.ts';
import { createWebhookServer, tlsOptions } from './server.ts';
import { contextOf, reviewOf } from './testing.ts';

const NAME = 'webhook.system.svc';
const HOUR_MS = 3_600_000;

async function start(t: TestContext) {
  const pair = await makePair([NAME], Date.now(), HOUR_MS);
  const server = createWebhookServer(contextOf(), pair, {
    failed: (error) => assert.fail(String(error)),
    took: () => {},
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  const { port } = server.address() as AddressInfo;
  return { pair, server, port };
}

async function post(port: number, ca: string, path: string, body: string, method = 'POST') {
  const request = httpsRequest({ host: '127.0.0.1', port, path, method, ca, servername: NAME, agent: false });
  request.end(body);
  const [response] = await once(request, 'response');
  let text = '';
  for await (const chunk of response) text += chunk;
  return { status: response.statusCode as number, body: JSON.parse(text) as Answer };
}

test('over TLS: the answer, and what is refused', async (t) => {
  const { pair, port } = await start(t);
  const ask = (path: string, body: string, method?: string) =>
    post(port, pair.certificate, path, body, method);
  const review = JSON.stringify(reviewOf(podOf()));
  const mutated = await ask('/mutate', review);
  assert.equal(mutated.status, 200);
  const patch = JSON.parse(Buffer.from(mutated.body.response.patch, 'base64').toString());
  assert.ok(patch.some(({ path }: { path: string }) => path === '/spec/initContainers'));
  assert.equal((await ask('/enforce', review)).body.response.allowed, false);
  assert.equal((await ask('/', review)).status, 404);
  assert.equal((await ask('/mutate', '', 'GET')).status, 405);
  const bad = await ask('/mutate', '{}');
  assert.deepEqual([bad.status, bad.body.code], [400, 'ERR_TCPCRYPT_BAD_REQUEST']);
  assert.equal((await ask('/mutate', ' '.repeat((4 << 20) + 1))).status, 413);
});

test('a renewed certificate is shown to new connections, without a gap', async (t) => {
  const { pair, server, port } = await start(t);
  const next = await makePair([NAME], Date.now(), HOUR_MS);
  const review = JSON.stringify(reviewOf(podOf()));
  assert.equal((await post(port, pair.certificate, '/mutate', review)).status, 200);
  server.setSecureContext(tlsOptions(next));
  await assert.rejects(post(port, pair.certificate, '/mutate', review));
  assert.equal((await post(port, next.certificate, '/mutate', review)).status, 200);
});

interface Answer {
  readonly code?: string;
  readonly response: { readonly allowed: boolean; readonly patch: string };
}
