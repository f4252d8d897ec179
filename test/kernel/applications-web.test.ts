/** nginx and curl over tcpcrypt. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Lab, requireRoot } from './support/namespaces.ts';
import { HTTP, HTTP2, startNginx } from './support/nginx.ts';
import { assertAllEncrypted, type Pair, secretly, withPair } from './support/pair.ts';
import { startTcpcrypt } from './support/tcpcrypt.ts';

const files = {
  'secret.txt': 'The recipe calls for saffron.\n'.repeat(200),
  'large.bin': randomBytes(10_000_000),
  ...Object.fromEntries(
    Array.from({ length: 20 }, (_, i) => [`page${i}.html`, `<p>saffron, page ${i}</p>\n`.repeat(i * 50 + 1)]),
  ),
};
const names = Object.keys(files);

/** One curl for all files: on one connection, if the server keeps it. */
function fetchAll({ client, address }: Pair, port: number, args: readonly string[]): number {
  const folder = mkdtempSync(join(tmpdir(), 'tcpcrypt-curl-'));
  try {
    const urls = names.flatMap((name) => ['-o', join(folder, name), `http://${address}:${port}/${name}`]);
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
    for (const name of names)
      assert.ok(
        readFileSync(join(folder, name)).equals(Buffer.from(files[name as keyof typeof files])),
        name,
      );
    return stdout.split('\n').reduce((sum, line) => sum + Number(line), 0);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

for (const [version, port, args] of [
  ['HTTP/1.1 with keep-alive', HTTP, ['--http1.1']],
  ['HTTP/2', HTTP2, ['--http2-prior-knowledge', '-H', 'x-secret: saffron']],
] as const) {
  test(`nginx and curl, ${version}: 22 files on one connection, byte for byte, none in clear`, (t) =>
    withPair(t, async (pair) => {
      const nginx = await startNginx(pair.server, files);
      const connects = await secretly(pair, ['saffron', 'GET /', 'nginx', 'HTTP/'], () =>
        fetchAll(pair, port, args),
      );
      assert.equal(connects, 1);
      assertAllEncrypted(pair);
      await nginx.stop();
    }));
}

test('nginx and curl, 60 connections one after the other: cached handshakes', (t) =>
  withPair(t, async (pair) => {
    const nginx = await startNginx(pair.server, files);
    for (let i = 0; i < 6; i++) {
      const urls = names.slice(0, 10).map((name) => `http://${pair.address}/${name}`);
      const { status } = pair.client.run('curl', [
        '-s',
        '--fail',
        '-m',
        '20',
        '-H',
        'Connection: close',
        '-o',
        '/dev/null',
        ...urls.flatMap((url) => ['-o', '/dev/null', url]).slice(2),
      ]);
      assert.equal(status, 0);
    }
    assertAllEncrypted(pair, 60);
    assert.ok(pair.atClient.outcomes('encrypted', { handshake: 'cached' }) >= 55, 'most were cached');
    await nginx.stop();
  }));

test('IPv6: nginx and curl, byte for byte, none in clear', (t) =>
  withPair(t, async (pair) => {
    const nginx = await startNginx(pair.server, files);
    await secretly(pair, ['saffron', 'GET /', 'nginx'], () =>
      fetchAll({ ...pair, address: `[${pair.address6}]` }, HTTP, []),
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
    assert.equal(stdout, files['secret.txt']);
    assert.deepEqual(only.fallbacks(), { peer_unsupported: 1 });
    assert.equal(only.outcomes('encrypted'), 0);
    await nginx.stop();
  });
}
