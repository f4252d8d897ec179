/**
 * `tcpcrypt run` on the real kernel: two namespaces on a cable, a process in each, connections between them.
 * Skipped without root.
 */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type Host, Lab, requireRoot } from '../../test/kernel/support/namespaces.ts';
import type { ApiConnection } from './api.ts';
import { apiGet } from './api-client.ts';
import { temporaryDirectory } from './testing.ts';

const launcher = fileURLToPath(new URL('../../bin/tcpcrypt', import.meta.url));

/** A `tcpcrypt run` in a namespace. */
class Running {
  readonly child: ChildProcess;
  readonly directory: string;
  readonly host: Host;
  readonly exited: Promise<unknown[]>;
  stderr = '';

  constructor(host: Host, directory: string, args: readonly string[], env: NodeJS.ProcessEnv = {}) {
    this.host = host;
    this.directory = directory;
    const all = ['run', '--api-socket', this.socket, ...args];
    this.child = host.spawn(launcher, all, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
    });
    this.child.stderr!.setEncoding('utf8').on('data', (text) => {
      this.stderr += text;
    });
    this.exited = once(this.child, 'exit');
  }

  get socket(): string {
    return join(this.directory, 'api.sock');
  }

  async ready(): Promise<this> {
    const line = once(this.child.stdout!.setEncoding('utf8'), 'data');
    const first = await within(Promise.race([line, this.exited]), 'ready');
    assert.equal(first[0], 'ready\n', this.stderr);
    return this;
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    this.child.kill(signal);
    const [code] = await within(this.exited, 'the end of run');
    if (signal === 'SIGTERM') assert.equal(code, 0, this.stderr);
  }

  async connections(): Promise<ApiConnection[]> {
    return JSON.parse(await apiGet(this.socket, '/v1/connections')).connections;
  }

  async metric(line: RegExp): Promise<number> {
    const found = line.exec(await apiGet(this.socket, '/v1/metrics'));
    return found === null ? Number.NaN : Number(found[1]);
  }

  command(...args: string[]): { status: number; stdout: string; stderr: string } {
    return this.host.run(launcher, [...args, '--api-socket', this.socket], { allowFailure: true });
  }
}

/** Sends back what it gets. */
const server = `
  require('node:net').createServer((socket) => socket.on('error', () => {}).pipe(socket))
    .listen(7000, '::', () => console.log('listening'));
`;

async function startServer(host: Host): Promise<ChildProcess> {
  const child = host.spawn(process.execPath, ['-e', server], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout!, 'data');
  return child;
}

/** A client in a namespace that holds one connection: writes lines from standard input, prints what comes. */
class Client {
  readonly child: ChildProcess;
  #received = '';
  constructor(host: Host, address: string) {
    const program = `
      const socket = require('node:net').connect(7000, '${address}');
      process.stdin.pipe(socket).pipe(process.stdout);
      socket.on('error', (error) => { console.log('error ' + error.code); process.exit(1); });
    `;
    this.child = host.spawn(process.execPath, ['-e', program], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.child.stdout!.setEncoding('utf8').on('data', (text) => {
      this.#received += text;
    });
  }

  /** Sends a line and waits until it has come back. */
  async echo(line: string): Promise<void> {
    this.#received = '';
    this.child.stdin!.write(`${line}\n`);
    await until(() => this.#received.length > line.length, `an echo of ${line.length} bytes`);
    assert.equal(this.#received, `${line}\n`);
  }
}

/** A promise that is kept within 20 seconds. */
async function within<T>(promise: Promise<T>, name: string): Promise<T> {
  const late = setTimeout(20_000, undefined, { ref: false }).then(() => {
    throw new Error(`waited too long for ${name}`);
  });
  return await Promise.race([promise, late]);
}

async function until(what: () => boolean | Promise<boolean>, name: string): Promise<void> {
  for (let tries = 0; !(await what()); tries++) {
    assert.ok(tries < 600, `waited too long for ${name}`);
    await setTimeout(25);
  }
}

interface Pair extends AsyncDisposable {
  readonly a: Host;
  readonly b: Host;
  start(host: Host, args?: readonly string[], env?: NodeJS.ProcessEnv): Promise<Running>;
}

function pair(t: TestContext): Pair {
  const lab = new Lab();
  const a = lab.host('a');
  const b = lab.host('b');
  lab.link(a, b);
  const directories = new Map([a, b].map((host) => [host, temporaryDirectory(t, '/dev/shm')]));
  return {
    a,
    b,
    start: (host, args = ['--install-rules'], env = {}) =>
      new Running(host, directories.get(host)!, args, env).ready(),
    [Symbol.asyncDispose]: () => lab[Symbol.asyncDispose](),
  };
}

test('a connection between two that run it is encrypted, and everything says so', async (t) => {
  if (!requireRoot(t)) return;
  await using lab = pair(t);
  const { a, b } = lab;
  const keyLog = join(temporaryDirectory(t), 'keys.log');
  const first = await lab.start(a, ['--install-rules'], { TCPCRYPT_KEYLOGFILE: keyLog });
  const second = await lab.start(b);
  await startServer(b);
  for (const address of [b.address4(), b.address6()]) {
    const client = new Client(a, address);
    await client.echo('x'.repeat(100_000));
    const [mine] = (await first.connections()).filter(({ remote }) => remote.includes(address));
    assert.ok(mine);
    assert.deepEqual(
      [mine.state, mine.active, mine.role, mine.bytesOut, mine.bytesIn],
      ['encrypted', true, 'C', 100_001, 100_001],
    );
    const [theirs] = (await second.connections()).filter(({ remote }) => remote === mine.local);
    assert.deepEqual([theirs?.sessionId, theirs?.active], [mine.sessionId, false]);
    assert.equal(first.command('session-id', mine.local, mine.remote).stdout, `${mine.sessionId}\n`);
    assert.match(first.command('connections').stdout, new RegExp(`encrypted .*${mine.sessionId}\n`));
    const logged = new RegExp(`^TCPCRYPT_SECRET ${mine.sessionId} [0-9a-f]{64} (\\S+) (\\S+)$`, 'm');
    assert.deepEqual(logged.exec(readFileSync(keyLog, 'utf8'))?.slice(1), [mine.local, mine.remote]);
  }
  assert.equal(
    await first.metric(/^tcpcrypt_connections_total\{role="C",.*outcome="encrypted",.*\} (\d+)$/m),
    2,
  );
  assert.equal(await first.metric(/^tcpcrypt_keylog_enabled (\d)$/m), 1);
  assert.equal(await second.metric(/^tcpcrypt_keylog_enabled (\d)$/m), 0);
  assert.equal(await first.metric(/^tcpcrypt_payload_bytes_total\{direction="in"\} (\d+)$/m), 200_002);
  assert.match(first.stderr, /"level":"warn".*key log/);
  assert.equal(a.run('curl', ['-s', 'http://127.0.0.1:19090/readyz']).stdout, 'ok\n');
  const unknown = first.command('session-id', '10.9.9.9:1', '10.9.9.9:2');
  assert.deepEqual([unknown.status, unknown.stdout], [1, '']);
  assert.match(unknown.stderr, /ERR_TCPCRYPT_CONNECTION_UNKNOWN/);
});

test('without a peer that knows it the connection is plain', async (t) => {
  if (!requireRoot(t)) return;
  await using lab = pair(t);
  const running = await lab.start(lab.a);
  await startServer(lab.b);
  await new Client(lab.a, lab.b.address4()).echo('hello');
  const fallbacks = /^tcpcrypt_fallbacks_total\{role="C",peer="external",reason="peer_unsupported"\} (\d+)$/m;
  await until(async () => (await running.metric(fallbacks)) === 1, 'the fallback to be counted');
  await running.stop();
});

test('a restart loses no connection, even one by SIGKILL', async (t) => {
  if (!requireRoot(t)) return;
  await using lab = pair(t);
  const state = temporaryDirectory(t, '/dev/shm');
  const args = ['--install-rules', '--state-dir', state];
  await lab.start(lab.b);
  let running = await lab.start(lab.a, args);
  await startServer(lab.b);
  const client = new Client(lab.a, lab.b.address4());
  await client.echo('before');
  const [before] = await running.connections();
  await running.stop('SIGKILL');
  const echoed = client.echo('y'.repeat(300_000));
  running = await lab.start(lab.a, args);
  await echoed;
  const [after] = await running.connections();
  assert.deepEqual([after?.sessionId, after?.state], [before?.sessionId, 'encrypted']);
  assert.match(running.stderr, /"restored":1/);
  assert.equal(await running.metric(/^tcpcrypt_checkpoint_errors_total (\d+)$/m), 0);
});

test('SIGTERM: the last bytes arrive first; then rules, socket file and process are gone', async (t) => {
  if (!requireRoot(t)) return;
  await using lab = pair(t);
  const { a, b } = lab;
  await lab.start(b);
  const running = await lab.start(a);
  const sink = b.spawn(
    process.execPath,
    [
      '-e',
      `require('node:net').createServer((socket) => {
      let bytes = 0;
      socket.pause();
      setTimeout(() => socket.resume(), 1500);
      socket.on('data', (data) => { bytes += data.length; }).on('end', () => console.log(bytes));
    }).listen(7000, '::', () => console.log('listening'));`,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  await once(sink.stdout!.setEncoding('utf8'), 'data');
  const source = a.spawn(process.execPath, [
    '-e',
    `const socket = require('node:net').connect(7000, '${b.address4()}');
     socket.end(Buffer.alloc(3_000_000), () => process.exit());`,
  ]);
  await once(source, 'exit');
  const received = within(once(sink.stdout!, 'data'), 'the last bytes');
  const [[bytes]] = await Promise.all([received, running.stop()]);
  assert.equal(bytes, '3000000\n');
  assert.doesNotMatch(a.run('iptables-nft-save').stdout, /TCPCRYPT/);
  assert.equal(
    (await apiGet(running.socket, '/v1/healthz').catch((error) => error)).code,
    'ERR_TCPCRYPT_API_UNREACHABLE',
  );
});

for (const side of ['active', 'passive'] as const) {
  test(`rules are not taken from under an encrypted connection: the ${side} end resets it first`, async (t) => {
    if (!requireRoot(t)) return;
    await using lab = pair(t);
    const passive = await lab.start(lab.b);
    const active = await lab.start(lab.a);
    await startServer(lab.b);
    const clients = [lab.b.address4(), lab.b.address6()].map((address) => new Client(lab.a, address));
    for (const client of clients) await client.echo('hello');
    const ended = clients.map(({ child }) => once(child, 'exit'));
    const stopping = side === 'active' ? active : passive;
    await stopping.stop();
    assert.deepEqual(await within(Promise.all(ended), 'resets'), [
      [1, null],
      [1, null],
    ]);
    assert.match(stopping.stderr, /"connections":2,.*are reset/);
    assert.doesNotMatch(stopping.host.run('iptables-nft-save').stdout, /TCPCRYPT/);
  });
}

test('a policy that changes applies to the next connection; a bad one changes nothing', async (t) => {
  if (!requireRoot(t)) return;
  await using lab = pair(t);
  const policy = join(temporaryDirectory(t), 'policy.yaml');
  writeFileSync(policy, 'mode: Disabled\n');
  await lab.start(lab.b);
  const running = await lab.start(lab.a, ['--install-rules', '--policy', policy]);
  await startServer(lab.b);
  const reason = /^tcpcrypt_fallbacks_total\{role="C",peer="external",reason="policy"\} (\d+)$/m;
  await new Client(lab.a, lab.b.address4()).echo('plain');
  await until(async () => (await running.metric(reason)) === 1, 'a plain connection');
  const reloads = (result: string) =>
    new RegExp(`^tcpcrypt_reloads_total\\{what="policy",result="${result}"\\} (\\d+)$`, 'm');
  writeFileSync(policy, 'mode: [\n');
  await until(async () => (await running.metric(reloads('failure'))) === 1, 'the bad policy to be counted');
  writeFileSync(policy, 'mode: Opportunistic\n');
  running.child.kill('SIGHUP');
  await until(async () => (await running.metric(reloads('success'))) >= 1, 'the policy to be read');
  await new Client(lab.a, lab.b.address4()).echo('encrypted');
  assert.ok((await running.connections()).some(({ state }) => state === 'encrypted'));
});

test('what is in the way: a metrics port in use is not fatal, a queue or an API socket in use is', async (t) => {
  if (!requireRoot(t)) return;
  await using lab = pair(t);
  const { a } = lab;
  const holder = a.spawn(
    process.execPath,
    ['-e', `require('node:net').createServer().listen(19090, '::', () => console.log('listening'))`],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  await once(holder.stdout!, 'data');
  const running = await lab.start(a, ['--grace', '0']);
  assert.equal(await running.metric(/^tcpcrypt_listen_errors_total\{listener="metrics"\} (\d+)$/m), 1);
  const refused = async (args: string[], message: RegExp, status = 1): Promise<void> => {
    const second = new Running(a, running.directory, args);
    const [code] = await within(second.exited, 'a refusal');
    assert.equal(code, status, second.stderr);
    assert.match(second.stderr, message);
  };
  await refused([], /ERR_TCPCRYPT_QUEUE_BUSY/);
  await refused(['--first-queue', '6000'], /another process listens on/, 2);
  await refused(['--state-dir', import.meta.dirname], /ERR_TCPCRYPT_STATE_DIR/);
  await running.stop();
});

test('rules that are missing are put in and stay; any that are there are left as they are', async (t) => {
  if (!requireRoot(t)) return;
  await using lab = pair(t);
  const chains = (): string => lab.a.run('iptables-nft-save', ['-t', 'mangle']).stdout;
  const first = await lab.start(lab.a, ['--ensure-rules']);
  assert.match(chains(), /-A TCPCRYPT_NEW /);
  await startServer(lab.b);
  await new Client(lab.a, lab.b.address4()).echo('hello');
  await first.stop();
  assert.match(chains(), /-A TCPCRYPT_NEW /, 'they stay');
  lab.a.run('iptables-nft', ['-t', 'mangle', '-F', 'TCPCRYPT_NEW']);
  const second = await lab.start(lab.a, ['--ensure-rules']);
  assert.doesNotMatch(chains(), /-A TCPCRYPT_NEW /);
  await second.stop();
});

test('rules install, verify, remove', async (t) => {
  if (!requireRoot(t)) return;
  await using lab = pair(t);
  const rules = (...args: string[]) => lab.a.run(launcher, ['rules', ...args], { allowFailure: true });
  const differs = rules('verify');
  assert.equal(differs.status, 1);
  assert.match(differs.stderr, /ERR_TCPCRYPT_RULES_DIFFER: IPv4 /);
  const liberal = 'net.netfilter.nf_conntrack_tcp_be_liberal';
  // A record that a namespace with the same number left behind is not believed.
  const { ino } = statSync(lab.a.nsPath);
  mkdirSync('/run/tcpcrypt', { recursive: true });
  writeFileSync(`/run/tcpcrypt/settings-${ino}.json`, '{"conntrack":{},"devices":{}}');
  const before = lab.a.sysctl(liberal);
  assert.equal(rules('install', '--exclude-port', '22').status, 0);
  assert.equal(lab.a.sysctl(liberal), '1');
  assert.equal(rules('install', '--exclude-port', '22').status, 0);
  assert.equal(rules('verify', '--exclude-port', '22').status, 0);
  assert.equal(rules('verify').status, 1);
  assert.equal(rules('remove').status, 0);
  assert.equal(lab.a.sysctl(liberal), before);
  assert.doesNotMatch(lab.a.run('iptables-nft-save').stdout, /TCPCRYPT/);
});
