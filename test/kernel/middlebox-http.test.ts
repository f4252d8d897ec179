/** A middlebox that lets only HTTP through, before a real web server. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startMiddlebox } from './support/middlebox.ts';
import { Lab, requireRoot } from './support/namespaces.ts';
import { startNginx } from './support/nginx.ts';
import { type Outcome, outcomeOf } from './support/outcome.ts';
import { makePath } from './support/path.ts';
import { startTcpcrypt } from './support/tcpcrypt.ts';

const BODY = 'saffron and nothing else\n'.repeat(2000);

test('only what looks like HTTP passes: plain after the time-out, twice, then at once', {
  timeout: 60_000,
}, async (t) => {
  if (!requireRoot(t)) return;
  using lab = new Lab();
  const { client, router, server } = await makePath(lab);
  const nginx = await startNginx(server, { page: BODY });
  t.after(() => nginx.stop());
  const box = await startMiddlebox(router, ['http-only']);
  const get = async (): Promise<string> =>
    client.run('curl', ['-sS', '-m', '20', `http://${server.address4()}/page`]).stdout;
  assert.equal(await get(), BODY, 'between plain hosts');

  const both = await Promise.all([startTcpcrypt(client), startTcpcrypt(server)]);
  await using atClient = both[0];
  await using atServer = both[1];
  const plain = (reason: string): Outcome => ({ plain: 1, fallbacks: { [reason]: 1 } });
  // Without X25519MLKEM768 the second time: INIT1 might have been too long for the path.
  for (const reason of ['init_timeout', 'init_timeout', 'negative_list']) {
    const [body, counted] = await outcomeOf([atClient, atServer], get);
    assert.equal(body, BODY, reason);
    assert.deepEqual(counted, plain(reason));
  }
  const counters = await box.stop();
  assert.ok((counters['dropped'] ?? 0) > 1, `INIT1 was dropped: ${JSON.stringify(counters)}`);
});
