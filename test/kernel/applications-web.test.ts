/** nginx and curl over tcpcrypt. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { temporaryFolder } from './support/files.ts';
import { Lab, requireRoot } from './support/namespaces.ts';
import { HTTP, HTTP2, startNginx } from './support/nginx.ts';
import { assertAllEncrypted, type Pair, secretly, withPair } from './support/pair.ts';
import { startTcpcrypt } from './support/tcpcrypt.ts';

const files: Readonly<Record<string, Buffer>> = {
  'secret.txt': Buffer.from('The recipe calls for saffron.\n'.repeat(200)),
  'large.bin': randomBytes(5_000_000),
  ...Object.fromEntries(
    Array.from({ length: 20 }, (_, i) => [
      `page${i}.html`,
      Buffer.from(`<p>saffron, page ${i}</p>\n`.repeat(i * 50 + 1)),
    ]),
  ),
};
const names = Object.keys(files);

/** One curl for all files: on one connection, if the server keeps it. Returns how many it made. */
function fetchAll(
  { client, address }: Pair,
  port: number,
  wanted: readonly string[],
  args: readonly string[],
): number {
  using folder = temporaryFolder();
  const urls = wanted.flatMap((name) => ['-o', join(folder.path, name), `http://${address}:${port}/${name}`]);
  const { stdout } = client.run('curl', [
    '-s',
    '-S',
    '--fail',
    '-m',
    '60',
    '-w',
    '%{num_connects}\n',
    ...args,
    ...urls,
  ]);
  for (const name of wanted) assert.ok(readFileSync(join(folder.path, name)).equals(files[name]), name);
  return stdout.split('\n').reduce((sum, line) => sum + Number(line), 0);
}

const secrets = ['saffron', 'GET /', 'nginx', 'HTTP/'];

test('nginx and curl, HTTP/1.1 with keep-alive: 22 files on one connection, byte for byte, none in clear', (t) =>
  withPair(t, async (pair) => {
    const nginx = await startNginx(pair.server, files);
    assert.equal(await secretly(pair, secrets, () => fetchAll(pair, HTTP, names, ['--http1.1'])), 1);
    assertAllEncrypted(pair);
    await nginx.stop();
  }));

test('nginx and curl, HTTP/2: byte for byte, none in clear', (t) =>
  withPair(t, async (pair) => {
    const nginx = await startNginx(pair.server, files);
    const http2 = ['--http2-prior-knowledge', '-H', 'x-secret: saffron'];
    await secretly(pair, secrets, () => {
      for (const name of ['secret.txt', 'large.bin']) fetchAll(pair, HTTP2, [name], http2);
    });
    assertAllEncrypted(pair, 2);
    await nginx.stop();
  }));

test('nginx and Node.js, HTTP/2: 22 streams at once on one connection, byte for byte, none in clear', (t) =>
  withPair(t, async (pair) => {
    const nginx = await startNginx(pair.server, files);
    const program = new URL('./support/http2-client.ts', import.meta.url).pathname;
    const paths = names.map((name) => `/${name}`);
    const { stdout } = await secretly(pair, secrets, () =>
      pair.client.run(process.execPath, [program, `http://${pair.address}:${HTTP2}`, ...paths]),
    );
    const digests = Object.entries(files).map(([name, bytes]) => [
      `/${name}`,
      createHash('sha256').update(bytes).digest('hex'),
    ]);
    assert.deepEqual(JSON.parse(stdout), Object.fromEntries(digests));
    assertAllEncrypted(pair);
    await nginx.stop();
  }));

test('nginx and curl, 60 connections one after the other: cached handshakes', (t) =>
  withPair(t, async (pair) => {
    const nginx = await startNginx(pair.server, files);
    const urls = names.slice(2).flatMap((name) => ['-o', '/dev/null', `http://${pair.address}/${name}`]);
    for (let i = 0; i < 3; i++)
      pair.client.run('curl', ['-s', '--fail', '-m', '20', '-H', 'Connection: close', ...urls]);
    assertAllEncrypted(pair, 60);
    assert.ok(pair.atClient.outcomes('encrypted', { handshake: 'cached' }) >= 55, 'most were cached');
    await nginx.stop();
  }));

test('IPv6: nginx and curl, byte for byte, none in clear', (t) =>
  withPair(t, async (pair) => {
    const nginx = await startNginx(pair.server, files);
    await secretly(pair, ['saffron', 'GET /', 'nginx'], () =>
      fetchAll({ ...pair, address: `[${pair.address6}]` }, HTTP, names, []),
    );
    assertAllEncrypted(pair);
    await nginx.stop();
  }));

for (const encrypts of ['client', 'server'] as const) {
  test(`a plain ${encrypts === 'client' ? 'server' : 'client'} still works, in clear, with the reason`, async (t) => {
    if (!requireRoot(t)) return;
    using lab = new Lab();
    const client = lab.host('client');
    const server = lab.host('server');
    lab.link(client, server);
    const nginx = await startNginx(server, files);
    await using only = await startTcpcrypt(encrypts === 'client' ? client : server);
    const { stdout } = client.run('curl', [
      '-s',
      '--fail',
      '-m',
      '20',
      `http://${server.address4()}/secret.txt`,
    ]);
    assert.equal(stdout, files['secret.txt'].toString());
    assert.deepEqual(only.fallbacks(), { peer_unsupported: 1 });
    assert.equal(only.outcomes('encrypted'), 0);
    await nginx.stop();
  });
}
