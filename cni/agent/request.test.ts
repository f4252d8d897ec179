import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request as httpRequest } from 'node:http';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { listenOnPath } from '../../observability/unix-socket.ts';
import { temporaryFolder } from '../executable/testing.ts';
import { createPluginServer } from './plugin-server.ts';
import { parseRequest } from './request.ts';

const body = (changes: object = {}) => ({
  ...{ command: 'ADD', containerId: 'c0', netns: '/run/netns/x', ifname: 'eth0', config: { name: 'pods' } },
  args: 'IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-0;K8S_POD_UID=a-1',
  ...changes,
});
const parse = (changes: object = {}) => parseRequest(JSON.stringify(body(changes)));

test('a call as the plugin makes it', () => {
  assert.deepEqual(parse(), {
    ...{ command: 'ADD', containerId: 'c0', netns: '/run/netns/x', interfaceName: 'eth0', network: 'pods' },
    pod: { namespace: 'shop', name: 'cart-0', uid: 'a-1' },
  });
});

test('GC names what is valid, under either name, or nothing', () => {
  const of = (config: object) =>
    parse({ command: 'GC', config: { name: 'pods', ...config } }).validAttachments;
  const named = [{ containerID: 'c0', ifname: 'eth0' }];
  const expected = [{ containerId: 'c0', interfaceName: 'eth0' }];
  assert.deepEqual(of({ 'cni.dev/valid-attachments': named }), expected);
  assert.deepEqual(of({ 'cni.dev/attachments': named }), expected);
  assert.deepEqual(of({ 'cni.dev/valid-attachments': [] }), []);
  for (const config of [{}, { 'cni.dev/valid-attachments': null }]) assert.equal(of(config), undefined);
});

test('arguments that are no names are no pod', () => {
  for (const args of ['', ';', 'K8S_POD_NAMESPACE', 'K8S_POD_NAMESPACE=../x', 'k8s_pod_namespace=shop']) {
    assert.equal(parse({ args }).pod.namespace, '', args);
  }
});

test('what is not such a call is refused', () => {
  const wrong = [
    ...[
      { command: 'VERSION' },
      { command: 1 },
      { containerId: '' },
      { containerId: '../../etc' },
      { ifname: 'a/b' },
    ],
    ...[
      { containerId: 'a,b' },
      { netns: 'x' },
      { netns: `/${'x'.repeat(5000)}` },
      { netns: '/a\0b' },
      { args: 1 },
    ],
    ...[
      { config: null },
      { config: [] },
      { config: {} },
      { command: 'GC', config: { name: 'x', 'cni.dev/valid-attachments': 1 } },
    ],
    { command: 'GC', config: { name: 'pods', 'cni.dev/valid-attachments': [{ containerID: 'x' }] } },
    { command: 'GC', config: { name: 'pods', 'cni.dev/valid-attachments': new Array(10_001).fill(0) } },
  ];
  for (const changes of wrong) {
    assert.throws(
      () => parse(changes),
      { code: 'ERR_TCPCRYPT_BAD_REQUEST' },
      JSON.stringify(changes).slice(0, 80),
    );
  }
  for (const text of ['', '{', 'null', '[]', '1']) assert.throws(() => parseRequest(text), { status: 400 });
});

test('nothing that comes makes it throw anything else', () => {
  const near = fc.record(
    {
      command: fc.constantFrom('ADD', 'GC', 'x'),
      containerId: fc.anything(),
      netns: fc.anything(),
      args: fc.anything(),
      ifname: fc.anything(),
      config: fc.anything(),
    },
    { requiredKeys: [] },
  );
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.json(),
        near.map((value) => JSON.stringify(value)),
      ),
      (text) => {
        try {
          parseRequest(text);
        } catch (error) {
          assert.equal((error as { code: string }).code, 'ERR_TCPCRYPT_BAD_REQUEST');
        }
      },
    ),
  );
});

test('the socket: POST /v1/cni with limits, and health', async (t) => {
  using folder = temporaryFolder();
  const socketPath = join(folder.path, 'agent.sock');
  const server = createPluginServer(
    async ({ command }) => ({ code: command === 'ADD' ? 0 : 101 }),
    (error) => {
      throw error;
    },
  );
  await listenOnPath(server, socketPath, 0o600);
  t.after(() => server.close());
  const call = async (method: string, path: string, content = '') => {
    const sent = httpRequest({ socketPath, method, path, agent: false }).on('error', () => {});
    sent.end(content);
    const [response] = await once(sent, 'response');
    let text = '';
    for await (const chunk of response) text += chunk;
    return [response.statusCode, JSON.parse(text).code ?? JSON.parse(text).status];
  };
  assert.deepEqual(await call('POST', '/v1/cni', JSON.stringify(body())), [200, 0]);
  assert.deepEqual(await call('POST', '/v1/cni', JSON.stringify(body({ command: 'DEL' }))), [200, 101]);
  assert.deepEqual(await call('GET', '/v1/healthz'), [200, 'ok']);
  assert.deepEqual(await call('GET', '/v1/cni'), [405, 'ERR_TCPCRYPT_BAD_REQUEST']);
  assert.deepEqual(await call('POST', '/v1/other'), [404, 'ERR_TCPCRYPT_BAD_REQUEST']);
  assert.deepEqual(await call('POST', '/v1/cni', '{'), [400, 'ERR_TCPCRYPT_BAD_REQUEST']);
  assert.deepEqual(await call('POST', '/v1/cni', ' '.repeat(2 << 20)), [413, 'ERR_TCPCRYPT_BAD_REQUEST']);
});
