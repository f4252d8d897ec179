/**
 * Where a row runs: two network namespaces with one cable, new for each, so that nothing of the row before (sockets in
 * TIME-WAIT, tracked connections, rules) is left.
 */
import { type ChildProcess, execFileSync, type SpawnOptions } from 'node:child_process';
import { join } from 'node:path';
import { type Host, Lab } from '../test/kernel/support/namespaces.ts';
import { saying, sleep } from '../test/kernel/support/processes.ts';
import type { Cgroup } from './cgroup.ts';

export const BIN = new URL('../.cache/bench/bin/', import.meta.url).pathname;

/** The applications' ports at the server. */
export const PORTS = { echo: 7000, iperf: 5201 } as const;
export type Service = keyof typeof PORTS;
export const SERVICES: readonly Service[] = ['echo', 'iperf'];

const fileLimit = Number(execFileSync('sh', ['-c', 'ulimit -Hn'], { encoding: 'utf8' })) || Infinity;

/**
 * Connections held at once at most: ten thousand, or what the limit of open files lets a proxy have, which takes two a
 * connection and keeps some for itself (stunnel 2.4 %).
 */
export const MOST_CONNECTIONS = Math.min(10_000, Math.floor(fileLimit * 0.48));

const START_LIMIT_MS = 20_000;

export interface BedOptions {
  readonly cgroup: Cgroup;
  readonly folder: string;
  readonly mtu: number;
}

export class Bed implements Disposable {
  readonly client: Host;
  readonly server: Host;
  readonly cgroup: Cgroup;
  /** For configuration files, keys, sockets. */
  readonly folder: string;
  /** Of the cable. */
  readonly mtu: number;
  readonly #lab = new Lab();

  constructor({ cgroup, folder, mtu }: BedOptions) {
    this.cgroup = cgroup;
    this.folder = folder;
    this.mtu = mtu;
    try {
      this.client = this.#lab.host('client');
      this.server = this.#lab.host('server');
      this.#lab.link(this.client, this.server, { mtu });
      for (const host of [this.client, this.server]) {
        // Tens of thousands of short connections from one address within seconds.
        host.sysctl('net.ipv4.ip_local_port_range', '1024 65535');
        host.sysctl('net.ipv4.ip_local_reserved_ports', '5201,7000,15201,17000,25201,27000');
        host.sysctl('net.ipv4.tcp_tw_reuse', 1);
      }
      // Finds the neighbour before anything is measured; the refusal is an answer.
      const probe = `: </dev/tcp/${this.server.address4()}/9`;
      this.client.run('timeout', ['3', 'bash', '-c', probe], { allowFailure: true });
    } catch (error) {
      this.#lab.dispose();
      throw error;
    }
  }

  /** Starts a command at one end; it ends with the bed. */
  start(host: Host, command: string, args: readonly string[], options: SpawnOptions = {}): ChildProcess {
    const [first, ...rest] = this.cgroup.inside(command, args);
    return host.spawn(first, rest, options);
  }

  /** Starts one of our own tools that says `line` when it is there. */
  async tool(host: Host, name: string, args: readonly string[], line: string): Promise<ChildProcess> {
    const child = this.start(host, join(BIN, name), args, { stdio: ['pipe', 'pipe', 'pipe'] });
    await saying(child, line);
    return child;
  }

  /** Starts somebody else's program and waits until it is there; what it wrote on standard error goes into the failure. */
  async program(
    host: Host,
    command: string,
    args: readonly string[],
    isThere: () => boolean,
  ): Promise<ChildProcess> {
    const child = this.start(host, command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    child.stderr?.on('data', (chunk: Buffer) => {
      said = (said + chunk).slice(-1000);
    });
    const until = performance.now() + START_LIMIT_MS;
    while (!isThere()) {
      if (child.exitCode !== null) throw new Error(`${command} ended: ${said.trim()}`);
      if (performance.now() > until) throw new Error(`${command} did not start: ${said.trim()}`);
      await sleep(50);
    }
    return child;
  }

  [Symbol.dispose](): void {
    this.#lab.dispose();
  }
}
