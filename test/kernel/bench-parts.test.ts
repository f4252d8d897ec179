/** The parts of the benchmark that need a kernel: the load generator, and a run whose rows do not do as they should. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { createServer, type Socket } from 'node:net';
import { before, type TestContext, test } from 'node:test';
import { BIN, PORTS } from '../../bench/bed.ts';
import { Cgroup } from '../../bench/cgroup.ts';
import { type Row, type Running, Unavailable } from '../../bench/contender.ts';
import { runAll } from '../../bench/run.ts';
import { temporaryFolder } from './support/files.ts';
import { requireRoot } from './support/namespaces.ts';
import { finished, saying } from './support/processes.ts';

before(() => {
  const setup = new URL('../../scripts/setup-bench', import.meta.url).pathname;
  const { status, stderr } = spawnSync('sh', [setup, 'tools'], { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
});

/** A server of this process on loopback; returns its port. */
async function serving(t: TestContext, serve: (socket: Socket) => void): Promise<string> {
  const server = createServer({ noDelay: true }, (socket) => {
    socket.on('error', () => {});
    serve(socket);
  });
  t.after(() => server.close());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return String((server.address() as { port: number }).port);
}

const load = (...args: string[]) => spawn(`${BIN}load`, args);
const echo = (socket: Socket): void => void socket.pipe(socket);

test('load connections: what the server saw is what it counts', async (t) => {
  let seen = 0;
  const port = await serving(t, (socket) => {
    seen++;
    echo(socket);
  });
  const { code, stdout } = await finished(load('connections', '127.0.0.1', port, '4', '0.3'));
  assert.equal(code, 0);
  const { connections, failed, error } = JSON.parse(stdout);
  assert.deepEqual([failed, error], [0, '']);
  // Those on their way at the end do not count: four at most.
  assert.ok(connections > 0 && seen >= connections && seen <= connections + 4, `${connections} of ${seen}`);
});

test('load connections: one that gets no answer has failed', async (t) => {
  let seen = 0;
  const port = await serving(t, (socket) => (++seen % 2 ? echo(socket) : socket.destroy()));
  const { stdout } = await finished(load('connections', '127.0.0.1', port, '2', '0.3'));
  const { connections, failed, error } = JSON.parse(stdout);
  assert.ok(connections > 0 && failed > 0, stdout);
  assert.match(error, /reset/);
});

test('load connections: with nobody there it gives up', async () => {
  const { code, stderr } = await finished(load('connections', '127.0.0.1', '1', '1', '9'));
  assert.equal(code, 1);
  assert.match(stderr, /no connection succeeds: Connection refused/);
});

test('load pingpong: a round trip lasts as long as the server makes it', async (t) => {
  const sizes = new Set<number>();
  const port = await serving(t, (socket) =>
    socket.on('data', (bytes) => {
      sizes.add(bytes.length);
      setTimeout(() => socket.write(bytes), 20);
    }),
  );
  const { stdout } = await finished(load('pingpong', '127.0.0.1', port, '1024', '0.3'));
  const { roundTrips, p50Us, p99Us } = JSON.parse(stdout);
  assert.ok(roundTrips > 0 && p50Us >= 19_000 && p99Us >= p50Us, stdout);
  assert.deepEqual([...sizes], [1024]);
});

test('load hold: so many connections are open until its input ends', async (t) => {
  const open = new Set<Socket>();
  const port = await serving(t, (socket) => {
    open.add(socket);
    socket.on('close', () => open.delete(socket));
    echo(socket);
  });
  const child = load('hold', '127.0.0.1', port, '100');
  const done = finished(child);
  await saying(child, 'holding {"held":100,"failed":0');
  assert.equal(open.size, 100);
  child.stdin.end();
  assert.equal((await done).code, 0);
});

test('load: wrong arguments', async () => {
  for (const args of [[], ['fly'], ['hold', '127.0.0.1', '80'], ['pingpong', '127.0.0.1', '80', '0', '1']])
    assert.equal((await finished(load(...args))).code, 2, args.join(' '));
});

const direct = (more: Partial<Running> = {}): Row['start'] => {
  return async (bed) => ({
    to: (service) => ({ address: bed.server.address4(), port: PORTS[service] }),
    pids: { client: [], server: [] },
    async [Symbol.asyncDispose]() {},
    ...more,
  });
};

test('a row that fails, cannot be had or is not encrypted is told apart, and the others go on', async (t) => {
  if (!requireRoot(t)) return;
  using folder = temporaryFolder();
  using cgroup = new Cgroup();
  let asked = 0;
  // All connections that were made since the last time were plain.
  const plainConnections = () => ({ plain: asked++, all: asked - 1, why: 'peer_unsupported 1' });
  const row = (name: string, start: Row['start']): Row => ({
    ...{ name, group: 'tcpcrypt', about: '', measures: ['latency'], start },
  });
  const lines: string[] = [];
  const { rows } = await runAll({
    rows: [
      row('good', direct()),
      row('missing', () => Promise.reject(new Unavailable('not to be had'))),
      row('broken', () => Promise.reject(new Error('it broke\nhere'))),
      row('in clear', direct({ plainConnections })),
      row('loud', direct({ remarks: () => ['listen'] })),
    ],
    ...{ rounds: 2, seconds: 1, quick: true, seed: 1, mtu: 1500, cores: 2, cgroup, folder: folder.path },
    progress: (line) => lines.push(line),
  });
  const [good, missing, broken, inClear, loud] = rows;
  assert.equal(good.samples.p50Byte?.length, 2);
  assert.deepEqual(good.failures, []);
  assert.partialDeepStrictEqual(missing, { skipped: 'not to be had', samples: {}, failures: [] });
  assert.deepEqual(broken.failures, ['latency: it broke', 'latency: it broke']);
  assert.deepEqual(inClear.samples, {});
  assert.equal(inClear.failures[0], 'latency: 1 of 1 connections were plain: peer_unsupported 1');
  assert.deepEqual([...loud.remarks], ['listen']);
  assert.equal(lines.length, 9, 'what cannot be had is not asked for again');
});

test('the control group counts what runs inside, and ends it', async (t) => {
  if (!requireRoot(t)) return;
  let child: ReturnType<typeof spawn>;
  {
    using cgroup = new Cgroup();
    const [command, ...args] = cgroup.inside('sh', ['-c', 'echo here; while :; do :; done']);
    const cpu = cgroup.cpuSeconds();
    child = spawn(command, args);
    await saying(child, 'here');
    while (cgroup.cpuSeconds() - cpu < 0.1) await new Promise((resolve) => setTimeout(resolve, 20));
  }
  if (child.signalCode === null) await new Promise((resolve) => child.once('exit', resolve));
  assert.equal(child.signalCode, 'SIGKILL');
});
