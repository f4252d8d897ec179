import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { createMetricsServer, listenOnPort } from './metrics-server.ts';

test('the metrics port: /metrics, /healthz, /readyz, and nothing else', async (t) => {
  const state = { healthy: true, ready: true };
  const source = {
    text: async () => 'tcpcrypt_x 1\n',
    healthy: () => state.healthy,
    ready: () => state.ready,
  };
  const server = createMetricsServer(source, (error) => assert.fail(String(error)));
  await listenOnPort(server, { host: '::', port: 0 });
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const status = async (path: string, method = 'GET') =>
    (await fetch(`http://127.0.0.1:${port}${path}`, { method })).status;
  const answer = await fetch(`http://127.0.0.1:${port}/metrics`);
  assert.match(answer.headers.get('content-type')!, /^text\/plain; version=0\.0\.4/);
  assert.equal(await answer.text(), 'tcpcrypt_x 1\n');
  assert.deepEqual([await status('/healthz'), await status('/readyz')], [200, 200]);
  state.ready = false;
  assert.deepEqual([await status('/healthz'), await status('/readyz')], [200, 503]);
  state.healthy = false;
  assert.deepEqual([await status('/healthz'), await status('/readyz')], [503, 503]);
  assert.deepEqual([await status('/'), await status('/metrics', 'POST')], [404, 405]);
  const second = createMetricsServer(source, (error) => assert.fail(String(error)));
  await assert.rejects(listenOnPort(second, { host: '::', port }), { code: 'EADDRINUSE' });
  server.close();
  await once(server, 'close');
});
