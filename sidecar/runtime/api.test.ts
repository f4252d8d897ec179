import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, linkSync, renameSync, statSync } from 'node:fs';
import { type IncomingMessage, type RequestOptions, request, type Server } from 'node:http';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { catalogue, TcpcryptError } from '../../errors/catalogue.ts';
import { listenOnPath } from '../../observability/unix-socket.ts';
import type { Listed } from '../protocol/negative-list.ts';
import type { ConnectionInfo } from '../rewriter/types.ts';
import { type Backend, createApi } from './api.ts';
import { apiGet } from './api-client.ts';
import { monotonicMs } from './clock.ts';
import { encrypted, plain, temporaryDirectory } from './testing.ts';

/** The process behind the API, with what was asked of it. */
class FakeBackend implements Backend {
  readonly calls: unknown[] = [];
  alive = true;
  list: readonly (readonly ConnectionInfo[])[] = [[encrypted], [plain]];
  async *connections(ends: { local?: string; remote?: string } = {}) {
    for (const chunk of this.list) {
      yield chunk.filter(
        ({ local, remote }) => (ends.local ?? local) === local && (ends.remote ?? remote) === remote,
      );
    }
  }
  async setAppSupport(...call: unknown[]): Promise<void> {
    this.calls.push(call);
  }
  async flushSessionCache(): Promise<void> {
    this.calls.push('flush');
  }
  async shareNegativeList(entries: readonly Listed[]): Promise<readonly Listed[]> {
    this.calls.push(entries);
    const untilMs = monotonicMs() + 90_000;
    return Array.from({ length: 300 }, (_, i) => ({ peer: `10.0.1.${i}`, untilMs }));
  }
  healthy = (): boolean => this.alive;
  metrics = async (): Promise<string> => '# metrics\n';
  async setPolicy(text: string): Promise<{ generation: string; warnings: string[] }> {
    if (text === 'bad') throw new TcpcryptError('ERR_TCPCRYPT_POLICY_INVALID', 'mode: is bad');
    if (text === 'bug') throw new Error('secret detail');
    this.calls.push(text);
    return { generation: 'abc', warnings: [] };
  }
  async setKeys(): Promise<{ keyIds: string[]; warnings: string[] }> {
    return { keyIds: ['0011223344556677'], warnings: [] };
  }
  version = () => ({ version: '1', ruleLayout: 1, policySchema: 'x' });
}

interface Served {
  readonly path: string;
  readonly backend: FakeBackend;
  readonly server: Server;
  readonly failures: unknown[];
  call(method: string, url: string, body?: string): Promise<Answer>;
}

interface Answer {
  readonly status: number | undefined;
  readonly headers: IncomingMessage['headers'];
  readonly text: string;
  readonly json: Record<string, unknown>;
}

async function serve(t: TestContext, kind: 'application' | 'control', mode = 0o666): Promise<Served> {
  const path = join(temporaryDirectory(t), 'sub', 'api.sock');
  const backend = new FakeBackend();
  const failures: unknown[] = [];
  const server = createApi(kind, backend, (error) => failures.push(error));
  await listenOnPath(server, path, mode);
  t.after(() => server.close());
  return { path, backend, server, failures, call: (...args) => send({ socketPath: path }, ...args) };
}

async function send(to: RequestOptions, method: string, path: string, body?: string): Promise<Answer> {
  const call = request({ ...to, method, path, agent: false }).end(body);
  const [response] = (await once(call, 'response')) as [IncomingMessage];
  let text = '';
  for await (const chunk of response.setEncoding('utf8')) text += chunk;
  const isJson = response.headers['content-type']?.includes('json');
  return {
    status: response.statusCode,
    headers: response.headers,
    text,
    json: isJson ? JSON.parse(text) : {},
  };
}

function assertProblem(answer: Answer, status: number, code: keyof typeof catalogue): void {
  assert.equal(answer.status, status);
  assert.equal(answer.headers['content-type'], 'application/problem+json');
  const { type, title, detail, ...rest } = answer.json;
  assert.deepEqual(rest, { status, code });
  assert.equal(type, `tag:tcpcrypt.io,2026:${code}`);
  assert.equal(title, catalogue[code]);
  assert.ok((detail as string).length > 0);
}

test('GET /v1/connections lists all, in one document', async (t) => {
  const { call, backend } = await serve(t, 'application');
  const { status, json } = await call('GET', '/v1/connections');
  assert.equal(status, 200);
  const [first, second] = json['connections'] as Record<string, unknown>[];
  const { openedAtMs: _, ...expected } = encrypted;
  // It was opened at 0 of the monotonic clock: when the machine started.
  const { openedAt, ...got } = first!;
  assert.ok(Math.abs(Date.now() - Date.parse(openedAt as string) - monotonicMs()) < 1000);
  assert.deepEqual(got, expected);
  assert.equal(second!['reason'], 'peer_unsupported');
  backend.list = [];
  assert.deepEqual((await call('GET', '/v1/connections')).json, { connections: [] });
  backend.list = [[], [plain], []];
  assert.equal(((await call('GET', '/v1/connections')).json['connections'] as unknown[]).length, 1);
});

test('GET /v1/connections: a list that fails half-way ends without its end', async (t) => {
  const { call, backend, failures } = await serve(t, 'application');
  backend.connections = async function* () {
    yield [encrypted];
    throw new Error('gone');
  };
  await assert.rejects(call('GET', '/v1/connections'), { code: 'ECONNRESET' });
  assert.equal(failures.length, 1);
});

test('GET /v1/sessions finds a connection by its ends, however its addresses are written', async (t) => {
  const { call } = await serve(t, 'application');
  const query = (local: string, remote: string) => `/v1/sessions?${new URLSearchParams({ local, remote })}`;
  for (const local of ['10.0.0.1:40000', '[::ffff:10.0.0.1]:40000', '[::ffff:a00:1]:40000']) {
    const { status, json } = await call('GET', query(local, '10.0.0.2:443'));
    assert.deepEqual([status, json['sessionId']], [200, encrypted.sessionId]);
  }
  assertProblem(
    await call('GET', query('10.0.0.1:40001', '10.0.0.2:443')),
    404,
    'ERR_TCPCRYPT_CONNECTION_UNKNOWN',
  );
  const notEncrypted = await call('GET', query('[fd00:0::1]:80', '[FD00::2]:40001'));
  assertProblem(notEncrypted, 409, 'ERR_TCPCRYPT_NOT_ENCRYPTED');
  assert.match(notEncrypted.json['detail'] as string, /plain \(peer_unsupported\)/);
  for (const local of [
    '',
    '10.0.0.1',
    '10.0.0.1:0',
    '10.0.0.1:65536',
    'fd00::1:80',
    'host:80',
    '[10.0.0.1:80',
  ]) {
    assertProblem(await call('GET', query(local, '10.0.0.2:443')), 400, 'ERR_TCPCRYPT_BAD_REQUEST');
  }
});

test('PUT /v1/app-support/{port}', async (t) => {
  const { call, backend } = await serve(t, 'application');
  for (const support of ['support', 'mandatory', 'none']) {
    const { status, text } = await call('PUT', '/v1/app-support/443', JSON.stringify({ support }));
    assert.deepEqual([status, text], [204, '']);
  }
  assert.deepEqual(backend.calls, [
    [443, 'support'],
    [443, 'mandatory'],
    [443, 'none'],
  ]);
  for (const port of ['0', '65536', '-1', 'http', '1e3', '%20']) {
    const answer = await call('PUT', `/v1/app-support/${port}`, '{"support":"support"}');
    assertProblem(answer, 400, 'ERR_TCPCRYPT_BAD_REQUEST');
  }
  for (const body of ['', '{', 'null', '[]', '"support"', '{}', '{"support":"yes"}']) {
    assertProblem(await call('PUT', '/v1/app-support/443', body), 400, 'ERR_TCPCRYPT_BAD_REQUEST');
  }
  assert.equal(backend.calls.length, 3);
});

test('DELETE /v1/session-cache, GET /v1/healthz, /v1/metrics, /v1/version', async (t) => {
  const { call, backend } = await serve(t, 'application');
  assert.equal((await call('DELETE', '/v1/session-cache')).status, 204);
  assert.deepEqual(backend.calls, ['flush']);
  assert.deepEqual((await call('GET', '/v1/healthz')).json, { status: 'ok' });
  backend.alive = false;
  assertProblem(await call('GET', '/v1/healthz'), 503, 'ERR_TCPCRYPT_INTERNAL');
  assert.equal((await call('GET', '/v1/metrics')).text, '# metrics\n');
  assert.deepEqual((await call('GET', '/v1/version')).json, {
    version: '1',
    ruleLayout: 1,
    policySchema: 'x',
  });
});

test('PUT /v1/negative-list takes what others found and answers with its own; over the control socket only', async (t) => {
  const { call, backend } = await serve(t, 'control', 0o600);
  const put = (entries: unknown) => call('PUT', '/v1/negative-list', JSON.stringify({ entries }));
  const before = monotonicMs();
  const { status, json } = await put([
    { address: '::FFFF:10.0.0.1', forSeconds: 60 },
    { address: 'FD00:0::1', forSeconds: 0.5 },
  ]);
  assert.equal(status, 200);
  const own = json['entries'] as unknown[];
  assert.equal(own.length, 256, 'the newest');
  assert.deepEqual(own.at(-1), { address: '10.0.1.299', forSeconds: 90 });
  const [taken] = backend.calls as Listed[][];
  assert.deepEqual(
    taken!.map(({ peer }) => peer),
    ['10.0.0.1', 'fd00::1'],
  );
  assert.ok(taken![0]!.untilMs >= before + 60_000 && taken![0]!.untilMs <= monotonicMs() + 60_000);
  const entry = { address: '10.0.0.1', forSeconds: 60 };
  for (const wrong of [
    ...[undefined, 'x', [null], [{ ...entry, address: 'x' }], [{ ...entry, address: 1 }]],
    ...[0, -1, '60', 1e9, undefined].map((forSeconds) => [{ ...entry, forSeconds }]),
    Array(1025).fill(entry),
  ]) {
    assertProblem(await put(wrong), 400, 'ERR_TCPCRYPT_BAD_REQUEST');
  }
  assert.equal(backend.calls.length, 1);
  const application = await serve(t, 'application');
  assertProblem(await application.call('PUT', '/v1/negative-list', '{}'), 404, 'ERR_TCPCRYPT_BAD_REQUEST');
});

test('policy and keys: over the control socket only', async (t) => {
  const application = await serve(t, 'application');
  for (const path of ['/v1/policy', '/v1/keys']) {
    assertProblem(await application.call('PUT', path, '{}'), 404, 'ERR_TCPCRYPT_BAD_REQUEST');
  }
  assert.deepEqual(application.backend.calls, []);
  const control = await serve(t, 'control', 0o600);
  assert.deepEqual((await control.call('PUT', '/v1/policy', 'mode: Strict')).json, {
    generation: 'abc',
    warnings: [],
  });
  assert.deepEqual(control.backend.calls, ['mode: Strict']);
  assertProblem(await control.call('PUT', '/v1/policy', 'bad'), 422, 'ERR_TCPCRYPT_POLICY_INVALID');
  assert.deepEqual((await control.call('PUT', '/v1/keys', '{}')).json['keyIds'], ['0011223344556677']);
  assert.equal((await control.call('GET', '/v1/connections')).status, 200);
  const bug = await control.call('PUT', '/v1/policy', 'bug');
  assertProblem(bug, 500, 'ERR_TCPCRYPT_INTERNAL');
  assert.doesNotMatch(bug.text, /secret detail/);
  assert.equal(control.failures.length, 1);
});

test('what the API does not know: 404, 405 with Allow', async (t) => {
  const { call } = await serve(t, 'application');
  assertProblem(await call('GET', '/'), 404, 'ERR_TCPCRYPT_BAD_REQUEST');
  assertProblem(await call('GET', '/v1/connections/'), 404, 'ERR_TCPCRYPT_BAD_REQUEST');
  assertProblem(await call('GET', '//'), 404, 'ERR_TCPCRYPT_BAD_REQUEST');
  const answer = await call('POST', '/v1/session-cache');
  assertProblem(answer, 405, 'ERR_TCPCRYPT_BAD_REQUEST');
  assert.equal(answer.headers.allow, 'DELETE');
});

test('limits: body, headers, clients', async (t) => {
  const { call, path } = await serve(t, 'application');
  assertProblem(await call('PUT', '/v1/app-support/1', 'x'.repeat(2000)), 413, 'ERR_TCPCRYPT_BAD_REQUEST');
  assert.equal(
    (await send({ socketPath: path, headers: { x: 'y'.repeat(9000) } }, 'GET', '/v1/healthz')).status,
    431,
  );
  const idle = Array.from({ length: 64 }, () => createConnection(path));
  t.after(() => {
    for (const socket of idle) socket.destroy();
  });
  await Promise.all(idle.map((socket) => once(socket, 'connect')));
  await assert.rejects(call('GET', '/v1/healthz'));
  idle.pop()!.destroy();
  let status: number | undefined;
  for (let tries = 0; status !== 200 && tries < 100; tries++) {
    status = await call('GET', '/v1/healthz').then(
      (answer) => answer.status,
      () => undefined,
    );
  }
  assert.equal(status, 200);
});

test('garbage instead of HTTP ends that connection alone', async (t) => {
  const { call, path } = await serve(t, 'application');
  const socket = createConnection(path);
  socket.end('\0\xff not http\r\n\r\n');
  await once(socket.resume(), 'close');
  assert.equal((await call('GET', '/v1/healthz')).status, 200);
});

test('the socket file: mode, stale one replaced, living one respected', async (t) => {
  const { path, server } = await serve(t, 'control', 0o600);
  assert.equal(statSync(path).mode & 0o777, 0o600);
  const second = createApi('application', new FakeBackend(), () => {});
  await assert.rejects(listenOnPath(second, path, 0o666), {
    code: 'ERR_TCPCRYPT_USAGE',
    message: /listens on/,
  });
  // A process that dies leaves its file behind: so does a server whose file is linked elsewhere first.
  linkSync(path, `${path}.kept`);
  await new Promise((resolve) => server.close(resolve));
  renameSync(`${path}.kept`, path);
  assert.ok(existsSync(path));
  await listenOnPath(second, path, 0o666);
  t.after(() => second.close());
  assert.equal(statSync(path).mode & 0o777, 0o666);
  assert.equal((await send({ socketPath: path }, 'GET', '/v1/healthz')).status, 200);
  const elsewhere = createApi('application', new FakeBackend(), () => {});
  await assert.rejects(listenOnPath(elsewhere, '/proc/api.sock', 0o666), { code: 'ERR_TCPCRYPT_USAGE' });
});

test('the client turns problems back into errors', async (t) => {
  const { path, server } = await serve(t, 'application');
  assert.match(await apiGet(path, '/v1/connections'), /"connections"/);
  const query = new URLSearchParams({ local: '10.0.0.9:1', remote: '10.0.0.9:2' });
  await assert.rejects(apiGet(path, `/v1/sessions?${query}`), { code: 'ERR_TCPCRYPT_CONNECTION_UNKNOWN' });
  server.close();
  server.closeAllConnections();
  await assert.rejects(apiGet(path, '/v1/healthz'), { code: 'ERR_TCPCRYPT_API_UNREACHABLE' });
});
