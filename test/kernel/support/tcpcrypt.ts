/** `tcpcrypt run` in a namespace: start it, ask it, kill it. */
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { executable } from '../../../cni/executable/testing.ts';
import type { ConnectionInfo } from '../../../sidecar/rewriter/types.ts';
import { parseMetrics, type Sample, total } from './metrics.ts';
import type { Host } from './namespaces.ts';
import { ended, eventually, saying } from './processes.ts';

const launcher = new URL('../../../bin/tcpcrypt', import.meta.url).pathname;
const METRICS = '127.0.0.1:19090';

export interface TcpcryptOptions {
  /** The policy document (`policy/`); without one the built-in policy holds. */
  readonly policy?: object;
  /** Keep a checkpoint, so that `kill` and `start` lose no connection. */
  readonly checkpoint?: boolean;
  readonly keyLog?: string;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Under the supervisor, as in a sidecar's container, with these options of it. */
  readonly supervise?: readonly string[];
}

/** One host's rewriter. Its files are on /tmp or, with `checkpoint`, on the memory-backed /dev/shm. */
export class Tcpcrypt implements AsyncDisposable {
  readonly host: Host;
  readonly folder: string;
  readonly #options: TcpcryptOptions;
  #child: ChildProcess | undefined;
  /** The end of what it logged. */
  log = '';

  constructor(host: Host, options: TcpcryptOptions) {
    this.host = host;
    this.#options = options;
    this.folder = mkdtempSync(join(options.checkpoint ? '/dev/shm' : tmpdir(), 'tcpcrypt-test-'));
    if (options.policy) this.writePolicy(options.policy);
  }

  get #socket(): string {
    return join(this.folder, 'api.sock');
  }

  /** Writes the policy file as an editor would: a new file in the old one's place. */
  writePolicy(policy: object): void {
    const file = join(this.folder, 'policy.json');
    writeFileSync(`${file}.new`, JSON.stringify(policy));
    renameSync(`${file}.new`, file);
  }

  /** Starts the process; resolves when it handles packets. */
  async start(): Promise<this> {
    const { policy, checkpoint, keyLog, args = [], env = {}, supervise } = this.#options;
    const child = this.host.spawn(
      supervise === undefined ? launcher : executable,
      [
        ...(supervise === undefined ? [] : ['supervise', ...supervise, '--', launcher]),
        ...['run', '--install-rules', '--api-socket', this.#socket, '--metrics-listen', METRICS],
        ...(policy ? ['--policy', join(this.folder, 'policy.json')] : []),
        ...(checkpoint ? ['--state-dir', join(this.folder, 'state')] : []),
        ...args,
      ],
      {
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { ...process.env, ...(keyLog ? { TCPCRYPT_KEYLOGFILE: keyLog } : {}), ...env },
      },
    );
    this.#child = child;
    child.stderr?.on('data', (chunk: Buffer) => {
      this.log = (this.log + chunk).slice(-20_000);
      if (process.env['TCPCRYPT_TEST_LOG']) process.stderr.write(chunk);
    });
    await saying(child, 'ready');
    return this;
  }

  /** The process as the kernel knows it; the launcher must `exec`, or a signal would not reach the rewriter. */
  get pid(): number {
    return this.#child!.pid!;
  }

  /** The rewriter that the supervisor runs now. */
  get supervised(): number {
    return Number(readFileSync(`/proc/${this.pid}/task/${this.pid}/children`, 'utf8').trim());
  }

  get running(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  async kill(): Promise<void> {
    await ended(this.#child!, 'SIGKILL');
  }

  async stop(): Promise<void> {
    if (this.#child) await ended(this.#child, 'SIGTERM', 15_000);
  }

  connections(): ConnectionInfo[] {
    const text = this.host.run(launcher, ['connections', '--json', '--api-socket', this.#socket]).stdout;
    const answer = JSON.parse(text);
    return Array.isArray(answer) ? answer : answer.connections;
  }

  /** The connection whose local address is this; waits until it is decided. */
  connection(local: string): Promise<ConnectionInfo> {
    return eventually(
      () => this.connections().find((each) => each.local === local && each.state !== 'setup'),
      `a decided connection ${local}`,
    );
  }

  metrics(): Sample[] {
    return parseMetrics(this.host.run('curl', ['-s', '-m', '5', `http://${METRICS}/metrics`]).stdout);
  }

  /** Connections that ended up so: `encrypted`, `plain`, `refused`. */
  outcomes(outcome: string, labels: Readonly<Record<string, string>> = {}): number {
    return total(this.metrics(), 'tcpcrypt_connections_total', { outcome, ...labels });
  }

  /** Fallbacks by reason, without those that never happened. */
  fallbacks(): Record<string, number> {
    const counts: Record<string, number> = {};
    for (const { name, labels, value } of this.metrics()) {
      if (name === 'tcpcrypt_fallbacks_total' && value > 0)
        counts[labels['reason']] = (counts[labels['reason']] ?? 0) + value;
    }
    return counts;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export const startTcpcrypt = (host: Host, options: TcpcryptOptions = {}): Promise<Tcpcrypt> =>
  new Tcpcrypt(host, options).start();
