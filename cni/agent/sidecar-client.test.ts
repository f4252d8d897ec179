/** Against a server in a pod's folder as the kubelet lays it, and against what a hostile pod may put there. */
import assert from 'node:assert/strict';
import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { type Answer, serve, temporaryFolder } from '../executable/testing.ts';
import { SidecarClient } from './sidecar-client.ts';

const uid = '0d7c3f9e-8a49-4c6b-9c55-6f2b8f0c1a11';
const other = 'ffffffff-8a49-4c6b-9c55-6f2b8f0c1a11';
const unreachable = { code: 'ERR_TCPCRYPT_API_UNREACHABLE' };

async function withSidecar(
  answer: Answer,
  use: (client: SidecarClient, volume: string, root: string) => Promise<void>,
) {
  using folder = temporaryFolder();
  const volume = join(folder.path, 'pods', uid, 'volumes/kubernetes.io~empty-dir/tcpcrypt-state');
  mkdirSync(volume, { recursive: true });
  // The whole path is longer than an address of a socket may be: it is made elsewhere and moved, as in a container.
  const short = join(folder.path, 'control.sock');
  await using _server = await serve(short, answer);
  renameSync(short, join(volume, 'control.sock'));
  await use(new SidecarClient(folder.path), volume, folder.path);
}

const ok: Answer = ({ method, url }, body, response) => {
  const texts: Record<string, string> = {
    'GET /v1/metrics': 'a 1\n',
    'GET /v1/version': '{"ruleLayout":1}',
    'PUT /v1/policy': `{"generation":"g-${body.length}"}`,
  };
  response.end(texts[`${method} ${url}`]);
};

describe('a sidecar', () => {
  test('is asked and told over its control socket', async () => {
    await withSidecar(ok, async (client) => {
      assert.equal(await client.metrics(uid), 'a 1\n');
      assert.equal(await client.ruleLayout(uid), 1);
      assert.equal(await client.setPolicy(uid, '{"mode":"Strict"}'), 'g-17');
    });
  });

  test('that refuses a policy says so, anything else is no answer', async () => {
    const problem = { code: 'ERR_TCPCRYPT_POLICY_INVALID', detail: 'mode is wrong' };
    const refuse: Answer = (_request, _body, response) =>
      response.writeHead(422).end(JSON.stringify(problem));
    await withSidecar(refuse, async (client) => {
      await assert.rejects(client.setPolicy(uid, '{}'), {
        code: 'ERR_TCPCRYPT_POLICY_INVALID',
        message: /mode is wrong/,
      });
    });
    const answers: Answer[] = [
      (_request, _body, response) => response.writeHead(500).end('null'),
      (_request, _body, response) => response.end('[]'),
      (_request, _body, response) => response.end('{"ruleLayout":"1"}'),
      (_request, _body, response) => response.destroy(),
      (_request, _body, response) => response.end(Buffer.alloc(2 << 20)),
      () => {},
    ];
    for (const answer of answers) {
      await withSidecar(answer, async (client) => await assert.rejects(client.ruleLayout(uid), unreachable));
    }
  });

  test('of another pod is never reached through a link', async () => {
    let asked = 0;
    const count: Answer = (_request, _body, response) => {
      asked++;
      response.end('{"ruleLayout":1}');
    };
    await withSidecar(count, async (client, volume, root) => {
      const volumes = join(root, 'pods', other, 'volumes/kubernetes.io~empty-dir');
      const socket = join(volumes, 'tcpcrypt-state/control.sock');
      mkdirSync(join(volumes, 'tcpcrypt-state'), { recursive: true });
      await assert.rejects(client.ruleLayout(other), unreachable, 'there is none');
      symlinkSync(join(volume, 'control.sock'), socket);
      await assert.rejects(client.ruleLayout(other), unreachable, 'a link to a socket');
      rmSync(socket);
      writeFileSync(socket, '');
      await assert.rejects(client.ruleLayout(other), unreachable, 'a file');
      rmSync(join(volumes, 'tcpcrypt-state'), { recursive: true });
      symlinkSync(volume, join(volumes, 'tcpcrypt-state'));
      await assert.rejects(client.ruleLayout(other), unreachable, 'a link to a folder');
      await assert.rejects(client.ruleLayout(`../pods/${uid}`), unreachable, 'a UID that is none');
      assert.equal(asked, 0);
    });
  });
});
