import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { answers, build, executable, serve, start, temporaryFolder } from './testing.ts';

before(() => build());

// Here the first process is older than any grace period, so a probe asks once.
describe('probe', () => {
  test('is green when the rewriter handles packets', async () => {
    using folder = temporaryFolder();
    const socket = join(folder.path, 'control.sock');
    await using _rewriter = await serve(socket, answers({ status: 'ok' }));
    const { status, stderr } = await start(['probe', '--strict', '--control-socket', socket]).finished;
    assert.deepEqual([status, stderr], [0, '']);
  });

  test('is green after the grace period whatever happened, unless the pod is Strict', async () => {
    const args = ['probe', '--control-socket', '/nonexistent/control.sock'];
    const opportunistic = await start(args).finished;
    assert.equal(opportunistic.status, 0);
    assert.match(opportunistic.stderr, /its connections are plain/);
    assert.equal((await start([...args, '--strict']).finished).status, 1);
  });

  test('a rewriter that is there and does not handle packets is not green', async () => {
    using folder = temporaryFolder();
    const socket = join(folder.path, 'control.sock');
    await using _rewriter = await serve(socket, (_request, _body, response) => {
      response.writeHead(503).end('{}');
    });
    const { status, stderr } = await start(['probe', '--strict', '--control-socket', socket]).finished;
    assert.equal(status, 1);
    assert.match(stderr, /HTTP status 503/);
  });

  test('waits for it within the grace period', async (t) => {
    using folder = temporaryFolder();
    const socket = join(folder.path, 'control.sock');
    // In a process namespace of its own, as in a container, its parent is young.
    const line = `exec 2>&1; ${executable} probe --strict --control-socket ${socket} --grace 60; echo status $?`;
    const child = spawn('unshare', ['--pid', '--fork', '--mount-proc', '--kill-child', 'sh', '-c', line]);
    let output = '';
    child.stdout.on('data', (text) => {
      output += text;
    });
    child.stderr.on('data', (text) => t.diagnostic(String(text)));
    const closed = once(child, 'close');
    await sleep(200);
    assert.equal(output, '');
    await using _rewriter = await serve(socket, answers({ status: 'ok' }));
    await closed;
    assert.equal(output, 'status 0\n');
  });

  for (const args of [['--grace'], ['--grace', 'x'], ['--what', '1'], ['--control-socket']]) {
    test(`wrong usage: probe ${args.join(' ')}`, async () => {
      assert.equal((await start(['probe', ...args]).finished).status, 2);
    });
  }
});

describe('the executable', () => {
  test('says what it is', async () => {
    assert.match((await start(['--version']).finished).stdout, /^tcpcrypt-node \d+\.\d+\.\d+\n$/);
    assert.match((await start(['--help']).finished).stdout, /supervise[\s\S]*probe/);
    assert.equal((await start([]).finished).status, 2);
    assert.equal((await start(['what']).finished).status, 2);
  });
});
