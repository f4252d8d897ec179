/**
 * Network namespaces for tests: hosts, cables and routers that last as long as one test.
 *
 *     test('…', (t) => {
 *       if (!requireRoot(t)) return;
 *       using lab = new Lab();
 *       const a = lab.host('a'), b = lab.host('b');
 *       lab.link(a, b);
 *       b.spawnNode('server.ts', [b.address4()]);
 *       a.run('ip', ['route']);
 *     });
 *
 * Invariant: everything that a lab made (namespaces, devices in them, processes) is gone when it is disposed
 * of, when the process exits, or, after a crash that let neither happen, when the next lab is made.
 */
import { type ChildProcess, type SpawnOptions, spawn, spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';

const NETNS_DIR = '/run/netns';
const ours = /^tc(\d+)-\d+-/;
/** IFNAMSIZ less its NUL. */
const DEVICE_NAME_MAX = 15;

export interface RunOptions {
  readonly input?: string | Uint8Array;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Do not throw when the command exits with something else than 0. */
  readonly allowFailure?: boolean;
  readonly timeoutMs?: number;
}

export interface RunResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface LinkOptions {
  /** Bytes; of both ends. Default 1500. */
  readonly mtu?: number;
  /** Addresses with prefix length of both ends; default 10.77.N.1/24 and .2, N counting links. `false`: none. */
  readonly v4?: readonly [string, string] | false;
  /** The same for IPv6; default fd77:0:0:N::1/64 and ::2. */
  readonly v6?: readonly [string, string] | false;
  /** `false` turns segmentation and checksum offload off at both ends. Default true, as the kernel does. */
  readonly offload?: boolean;
}

export interface LinkEnd {
  readonly device: string;
  /** Without the prefix length; '' if none. */
  readonly address4: string;
  readonly address6: string;
}

/** Runs a command and returns what it wrote; throws with its standard error when it fails. */
function runCommand(command: string, args: readonly string[], options: RunOptions = {}): RunResult {
  const done = spawnSync(command, args, {
    encoding: 'utf8',
    maxBuffer: 64 << 20,
    ...(options.input === undefined ? {} : { input: options.input }),
    ...(options.env === undefined ? {} : { env: { ...process.env, ...options.env } }),
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    timeout: options.timeoutMs ?? 60_000,
  });
  if (done.error) throw done.error;
  const result = { status: done.status ?? 128, stdout: done.stdout, stderr: done.stderr };
  if (result.status !== 0 && !options.allowFailure) {
    const said = `${result.stdout}${result.stderr}`.trim();
    throw new Error(`${command} ${args.join(' ')}: exit ${result.status}${said && `: ${said}`}`);
  }
  return result;
}

/** A network namespace with its loopback device up. Made by `Lab.host`. */
export class Host {
  /** The namespace's name as `ip netns` knows it. */
  readonly name: string;
  /** Path of the namespace, for `setns` and `nsenter --net=`. */
  readonly nsPath: string;
  /** One for each link, in the order they were made. */
  readonly ends: LinkEnd[] = [];
  readonly #children = new Set<ChildProcess>();

  constructor(name: string) {
    this.name = name;
    this.nsPath = `${NETNS_DIR}/${name}`;
  }

  /** Runs a command in the namespace (and in it alone: mounts are the machine's) and waits for it. */
  run(command: string, args: readonly string[] = [], options: RunOptions = {}): RunResult {
    return runCommand('nsenter', [`--net=${this.nsPath}`, '--', command, ...args], options);
  }

  /** Starts a command in the namespace; it is killed with the lab at the latest. `nsenter` execs: the pid is the command's. */
  spawn(command: string, args: readonly string[] = [], options: SpawnOptions = {}): ChildProcess {
    const child = spawn('nsenter', [`--net=${this.nsPath}`, '--', command, ...args], options);
    this.#children.add(child);
    child.once('exit', () => this.#children.delete(child));
    child.once('error', () => this.#children.delete(child));
    return child;
  }

  /** Starts a TypeScript or JavaScript file with this very Node.js in the namespace. */
  spawnNode(file: string, args: readonly string[] = [], options: SpawnOptions = {}): ChildProcess {
    return this.spawn(process.execPath, [file, ...args], options);
  }

  /** `ip` in the namespace: `host.ip('route', 'add', …)`; returns standard output. */
  ip(...args: string[]): string {
    return runCommand('ip', ['-n', this.name, ...args]).stdout;
  }

  /** Reads a sysctl of the namespace (`net.ipv4.ip_forward`), or sets it. */
  sysctl(key: string, value?: string | number): string {
    const file = `/proc/sys/${key.includes('/') ? key : key.replaceAll('.', '/')}`;
    if (value !== undefined) this.run('tee', [file], { input: String(value) });
    return this.run('cat', [file]).stdout.trim();
  }

  /** The address on the i-th link that was made. */
  address4(i = 0): string {
    return this.#end(i).address4;
  }

  address6(i = 0): string {
    return this.#end(i).address6;
  }

  device(i = 0): string {
    return this.#end(i).device;
  }

  /** Segmentation and checksum offload of the i-th link's device; or one feature by ethtool's name. */
  offload(on: boolean, i = 0, features: readonly string[] = ['tso', 'gso', 'gro', 'tx', 'rx']): void {
    const state = on ? 'on' : 'off';
    this.run('ethtool', ['-K', this.device(i), ...features.flatMap((feature) => [feature, state])]);
  }

  /** Ends what was started here, by process id. */
  endProcesses(): void {
    for (const child of this.#children) {
      child.kill('SIGKILL');
      child.unref();
    }
    this.#children.clear();
  }

  #end(i: number): LinkEnd {
    const end = this.ends[i];
    if (end === undefined) throw new Error(`${this.name} has no link ${i}`);
    return end;
  }
}

let hostsMade = 0;
const open = new Set<Lab>();
let hooked = false;

function hookExit(): void {
  if (hooked) return;
  hooked = true;
  const removeAll = (): void => {
    for (const lab of open) lab.dispose();
  };
  process.on('exit', removeAll);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => {
      removeAll();
      process.kill(process.pid, signal);
    });
  }
}

/** Holds the hosts of one test. `using lab = new Lab()` removes them at the end of the block. */
export class Lab implements Disposable, AsyncDisposable {
  readonly #hosts: Host[] = [];
  #links = 0;

  constructor() {
    if (!hooked) sweep();
    hookExit();
    open.add(this);
  }

  /** A new namespace, `tc<pid>-<n>-<label>`, loopback up. */
  host(label: string): Host {
    const host = new Host(`tc${process.pid}-${hostsMade++}-${label}`);
    runCommand('ip', ['netns', 'add', host.name]);
    this.#hosts.push(host);
    // Before a device exists: no duplicate address detection, so addresses can be used at once.
    host.run('sh', [
      '-c',
      'ip link set lo up; for f in all default; do echo 0 >/proc/sys/net/ipv6/conf/$f/accept_dad; done',
    ]);
    return host;
  }

  /** A veth pair between two hosts, up, with addresses of both families. The ends are appended to `ends`. */
  link(a: Host, b: Host, options: LinkOptions = {}): readonly [LinkEnd, LinkEnd] {
    const n = ++this.#links;
    const v4 = options.v4 ?? ([`10.77.${n}.1/24`, `10.77.${n}.2/24`] as const);
    const v6 = options.v6 ?? ([`fd77:0:0:${n}::1/64`, `fd77:0:0:${n}::2/64`] as const);
    const names = [deviceName(n, b), deviceName(n, a)] as const;
    const mtu = String(options.mtu ?? 1500);
    runCommand('ip', [
      ...['link', 'add', 'name', names[0], 'netns', a.name, 'mtu', mtu, 'type', 'veth'],
      ...['peer', 'name', names[1], 'netns', b.name, 'mtu', mtu],
    ]);
    const ends = [a, b].map((host, side): LinkEnd => {
      const device = names[side]!;
      if (v4) host.ip('address', 'add', v4[side]!, 'dev', device);
      if (v6) host.ip('-6', 'address', 'add', v6[side]!, 'dev', device, 'nodad');
      const end = { device, address4: bare(v4 && v4[side]!), address6: bare(v6 && v6[side]!) };
      host.ends.push(end);
      if (options.offload === false) host.offload(false, host.ends.length - 1);
      return end;
    });
    for (const [side, host] of [a, b].entries()) host.ip('link', 'set', names[side]!, 'up');
    return [ends[0]!, ends[1]!];
  }

  /** a — router — b with default routes both ways and forwarding. Options apply to both links. */
  router(a: Host, router: Host, b: Host, options: Omit<LinkOptions, 'v4' | 'v6'> = {}): void {
    router.sysctl('net.ipv4.ip_forward', 1);
    router.sysctl('net.ipv6.conf.all.forwarding', 1);
    for (const host of [a, b]) {
      const [, near] = this.link(host, router, options);
      host.ip('route', 'add', 'default', 'via', near.address4);
      host.ip('-6', 'route', 'add', 'default', 'via', near.address6);
    }
  }

  dispose(): void {
    open.delete(this);
    for (const host of this.#hosts) host.endProcesses();
    for (const host of this.#hosts.splice(0)) removeNamespace(host.name);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.dispose();
  }
}

function deviceName(link: number, peer: Host): string {
  return `v${link}-${peer.name.replace(ours, '')}`.slice(0, DEVICE_NAME_MAX);
}

function bare(cidr: string | false): string {
  return cidr === false ? '' : cidr.slice(0, cidr.indexOf('/'));
}

function removeNamespace(name: string): void {
  runCommand('ip', ['netns', 'delete', name], { allowFailure: true });
}

/** Removes namespaces, and the processes in them, that test processes left behind which are dead. */
export function sweep(): void {
  if (!existsSync(NETNS_DIR)) return;
  for (const name of readdirSync(NETNS_DIR)) {
    const pid = ours.exec(name)?.[1];
    if (pid === undefined || existsSync(`/proc/${pid}`)) continue;
    const inside = runCommand('ip', ['netns', 'pids', name], { allowFailure: true }).stdout;
    for (const id of inside.split('\n').filter(Boolean)) {
      try {
        process.kill(Number(id), 'SIGKILL');
      } catch {
        // It ended meanwhile.
      }
    }
    removeNamespace(name);
  }
}

/** What `requireRoot` needs of node:test's context. */
interface Skippable {
  skip(message?: string): void;
}

let namespacesWork: boolean | undefined;

/** True where namespaces can be made. Else skips the test, saying why, and returns false. */
export function requireRoot(t: Skippable): boolean {
  if (process.getuid?.() !== 0) {
    t.skip('needs root: it makes network namespaces');
    return false;
  }
  namespacesWork ??= spawnSync('unshare', ['--net', 'true']).status === 0;
  if (!namespacesWork) t.skip('needs the capability SYS_ADMIN: network namespaces cannot be made here');
  return namespacesWork;
}
