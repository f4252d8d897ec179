import assert from 'node:assert/strict';
import { mkdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from '../../observability/log.ts';
import { type Answer, serve, temporaryFolder } from '../executable/testing.ts';
import { Metrics } from './metrics.ts';
import type { Pod } from './pod.ts';
import { SidecarClient } from './sidecar-client.ts';
import { Sidecars } from './sidecars.ts';

const silent = () => {};
const log = { debug: silent, info: silent, warn: silent } as unknown as Logger;
const podOf = (uid: string, namespace = 'shop'): Pod => ({
  ...{ namespace, name: uid, uid, labels: {}, ending: false },
  sidecar: { rules: undefined, problem: '', started: true },
});

/** A stand-in for a rewriter's control socket: keeps a policy, and says what it counted. */
class Rewriter {
  policy = '';
  plain = 0;
  pushes: string[] = [];
  wrong = 'wrong';
  /** On its own negative list; undefined: it is too old to have one that is shared. */
  listed: readonly string[] | undefined = [];
  shared = '';
  readonly answer: Answer = (request, body, response) => {
    if (request.url === '/v1/policy') {
      this.pushes.push(body);
      if (body === this.wrong)
        response.writeHead(422).end('{"code":"ERR_TCPCRYPT_POLICY_INVALID","detail":"x"}');
      else {
        this.policy = body;
        response.end(JSON.stringify({ generation: `g-${body}` }));
      }
      return;
    }
    if (request.url === '/v1/negative-list') {
      this.shared = body;
      if (this.listed === undefined) response.writeHead(404).end('{}');
      else
        response.end(
          JSON.stringify({ entries: this.listed.map((address) => ({ address, forSeconds: 60 })) }),
        );
      return;
    }
    response.end(`tcpcrypt_policy_info{generation="g-${this.policy}"} 1
tcpcrypt_connections_total{peer="cluster",outcome="plain"} ${this.plain}\n`);
  };
}

/** Stand-ins at their sockets, what they counted, and what waits for something of them. */
function setUp(t: TestContext, policyFor: () => string | undefined) {
  const folder = temporaryFolder();
  const metrics = new Metrics();
  const client = new SidecarClient(folder.path);
  const sidecars = new Sidecars({ client, metrics, log, policyFor, collectMs: 30, againMs: 10 });
  const servers: AsyncDisposable[] = [];
  t.after(async () => {
    sidecars.stop();
    for (const server of servers) await server[Symbol.asyncDispose]();
    folder[Symbol.dispose]();
  });
  const serveAt = async (uid: string, rewriter: Rewriter): Promise<void> => {
    const volume = join(folder.path, 'pods', uid, 'volumes/kubernetes.io~empty-dir/tcpcrypt-state');
    mkdirSync(volume, { recursive: true });
    const short = join(folder.path, uid);
    servers.push(await serve(short, rewriter.answer));
    renameSync(short, join(volume, 'control.sock'));
  };
  const plain = async (): Promise<number> => {
    const line =
      /tcpcrypt_namespace_connections_total\{namespace="shop",peer="cluster",outcome="plain"\} (\d+)/;
    return Number(line.exec(await metrics.text())?.[1] ?? 0);
  };
  const until = async (what: string, condition: () => boolean | Promise<boolean>): Promise<void> => {
    for (let tries = 0; !(await condition()); tries++) {
      assert.ok(tries < 500, what);
      await sleep(10);
    }
  };
  return { sidecars, serveAt, plain, until };
}

test('sidecars are given their policy and asked what they counted', async (t) => {
  let policy: string | undefined = 'first';
  const { sidecars, serveAt, plain, until } = setUp(t, () => policy);
  const [old, young] = [new Rewriter(), new Rewriter()];
  old.plain = 100;
  await serveAt('old', old);
  sidecars.see(podOf('old'));
  sidecars.begin();
  // It does not answer yet, and is asked again.
  sidecars.see(podOf('young'));
  await until('the old one has its policy', () => sidecars.isProgrammed('old'));
  assert.equal(sidecars.isReachable('young'), false);
  assert.equal(await plain(), 0, 'what was counted before us is not ours');
  young.plain = 5;
  await serveAt('young', young);
  await until('the young one counts from its beginning', async () => (await plain()) === 5);
  old.plain = 103;
  await until('and the old one from now on', async () => (await plain()) === 8);
  young.plain = 2;
  await until('one that starts again', async () => (await plain()) === 10);

  policy = 'second';
  sidecars.policiesChanged('other');
  await sleep(50);
  sidecars.policiesChanged('shop');
  await until('both have the new one', () => old.policy === 'second' && young.policy === 'second');
  old.policy = '';
  await until('one that lost it is given it again', () => old.policy === 'second');

  policy = 'wrong';
  sidecars.policiesChanged('shop');
  await until('refused', () => old.pushes.includes('wrong'));
  await sleep(150);
  assert.equal(old.pushes.filter((each) => each === 'wrong').length, 1, 'it is not sent again and again');
  assert.equal(sidecars.isProgrammed('old'), false);
  policy = undefined;
  sidecars.policiesChanged('shop');
  await sleep(50);
  assert.equal(old.policy, 'second', 'no policy is no reason to change it');

  sidecars.forget('young');
  // A visit that had begun may still end.
  await sleep(200);
  young.plain = 50;
  await sleep(100);
  assert.equal(await plain(), 10);
});

test('what one has on its negative list the others of its namespace are told', async (t) => {
  const { sidecars, serveAt, until } = setUp(t, () => undefined);
  const pods = { failed: 'shop', other: 'shop', stranger: 'else', old: 'shop' };
  const rewriters = new Map<string, Rewriter>();
  for (const [uid, namespace] of Object.entries(pods)) {
    const rewriter = new Rewriter();
    rewriters.set(uid, rewriter);
    await serveAt(uid, rewriter);
    sidecars.see(podOf(uid, namespace));
  }
  const [failed, other, stranger, old] = [...rewriters.values()] as [Rewriter, Rewriter, Rewriter, Rewriter];
  old.listed = undefined;
  failed.listed = ['10.0.0.1'];
  const told = '{"entries":[{"address":"10.0.0.1","forSeconds":60}]}';
  const nothing = '{"entries":[]}';
  await until('the other one is told', () => other.shared === told);
  await until('the old one was', () => old.shared === told);
  assert.ok(sidecars.isReachable('old'), 'which knows nothing of it, and is served all the same');
  assert.deepEqual([failed.shared, stranger.shared], [nothing, nothing]);
  const late = new Rewriter();
  await serveAt('late', late);
  sidecars.forget('failed');
  sidecars.see(podOf('late'));
  await until('one that comes after it', () => late.shared === told);
  sidecars.see(podOf('failed'));
  failed.listed = [];
  await until('it had a success', () => other.shared === nothing && late.shared === nothing);
});
