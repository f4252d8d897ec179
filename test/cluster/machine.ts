/**
 * A machine of the cluster: mount, network, process and host-name namespaces around a first process. It shares the
 * host's files, but has its own at the paths that a node writes to.
 *
 * Invariant: when the first process ends, the kernel ends all others and takes down devices, routes and mounts; what
 * is left is a folder and cgroups, and the folder says which. So a machine can be removed after any crash.
 */
import { type ChildProcess, type SpawnOptions, spawn, spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import type { Host } from '../kernel/support/namespaces.ts';
import { eventually } from '../kernel/support/processes.ts';

/** What a node's programs write to. */
const OWN_PATHS = [
  '/etc/cni',
  '/opt/cni',
  '/var/lib/cni',
  '/var/lib/containerd',
  '/var/lib/kubelet',
  '/var/log/pods',
  '/var/log/containers',
];
const init = join(import.meta.dirname, 'machine-init.sh');

/** A process by id and start time: ids are used again. */
interface ProcessId {
  readonly pid: number;
  /** Clock ticks after boot: field 22 of /proc/PID/stat. */
  readonly started: string;
}

interface MachineState {
  /** Ends the machine's first process when it ends. */
  readonly keeper: ProcessId;
  /** The machine's first process, as the host knows it. */
  readonly first: ProcessId;
  /** Service name to process id, as the machine knows it. */
  readonly services: Record<string, number>;
}

export interface RunResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly input?: string | Uint8Array;
  /** Do not throw when the command exits with something else than 0. */
  readonly allowFailure?: boolean;
  readonly timeoutMs?: number;
}

export class Machine {
  readonly name: string;
  readonly folder: string;

  /** `folder` is the machine's alone; it need not exist. */
  constructor(name: string, folder: string) {
    this.name = name;
    this.folder = folder;
  }

  get running(): boolean {
    const state = this.#read();
    return state !== undefined && lives(state.first);
  }

  /** The path of its network namespace, for `nsenter --net=` and `ip link set … netns`. */
  get networkNamespace(): string {
    return `/proc/${this.#state.first.pid}/ns/net`;
  }

  /** Its first process, as the host knows it. */
  get pid(): number {
    return this.#state.first.pid;
  }

  async start(): Promise<void> {
    mkdirSync(this.folder, { recursive: true, mode: 0o700 });
    makeMountPoints();
    const log = openSync(join(this.folder, 'machine.log'), 'a');
    const namespaces = ['--mount', '--uts', '--ipc', '--net', '--pid', '--fork', '--kill-child=KILL'];
    const command = [...namespaces, '--', 'sh', init, this.name, this.folder, ...OWN_PATHS];
    const child = spawn('unshare', command, { detached: true, stdio: ['ignore', log, log] });
    closeSync(log);
    child.unref();
    await new Promise((resolve, reject) => child.once('spawn', resolve).once('error', reject));
    const pid = child.pid!;
    const first = await eventually(() => firstChild(pid), `the first process of ${this.name}`);
    this.#write({ keeper: identify(pid)!, first, services: {} });
    await eventually(
      () => {
        if (child.exitCode !== null) throw new Error(`${this.name} did not start: ${this.log('machine')}`);
        return existsSync(`/proc/${first.pid}/root/run/ready`);
      },
      `${this.name} up: ${this.log('machine')}`,
    );
  }

  /** Ends all its processes; its files stay. As a power failure would, unless its services were stopped before. */
  async stop(): Promise<void> {
    const state = this.#read();
    if (!state) return;
    // The keeper ends with what it waits for.
    if (lives(state.first)) signal(state.first.pid, 'SIGKILL');
    await eventually(() => !lives(state.first) && !lives(state.keeper), `the end of ${this.name}`, 30_000);
    rmSync(this.#stateFile);
  }

  /** Stops it and removes its files. */
  async remove(): Promise<void> {
    await this.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Runs a command as the machine's own and waits for it. */
  run(command: string, args: readonly string[] = [], options: RunOptions = {}): RunResult {
    return runCommand('nsenter', [...this.#enter(), command, ...args], options);
  }

  /** Runs a command of the host's in the machine's network: its files are the host's. */
  runInNetwork(command: string, args: readonly string[] = [], options: RunOptions = {}): RunResult {
    return runCommand('nsenter', [`--net=${this.networkNamespace}`, '--', command, ...args], options);
  }

  /** Starts a command of the host's in the machine's network. `nsenter` execs: the pid is the command's. */
  spawnInNetwork(command: string, args: readonly string[] = [], options: SpawnOptions = {}): ChildProcess {
    return spawn('nsenter', [`--net=${this.networkNamespace}`, '--', command, ...args], options);
  }

  /** A device of its, for `capture` of the kernel tests. */
  tap(device: string): Pick<Host, 'device' | 'spawn'> {
    return { device: () => device, spawn: (...command) => this.spawnInNetwork(...command) };
  }

  /** Starts a program that stays; what it says goes to a log of its name. */
  startService(name: string, program: string, args: readonly string[]): void {
    const script = 'log=$1; shift; setsid "$@" >>"$log" 2>&1 </dev/null & echo $!';
    const { stdout } = this.run('sh', ['-c', script, 'sh', this.#logFile(name), program, ...args]);
    const state = this.#state;
    this.#write({ ...state, services: { ...state.services, [name]: Number(stdout) } });
  }

  /** Ends a service, by its process id, and waits until it is gone. */
  async stopService(name: string, signalName: 'TERM' | 'KILL' = 'TERM'): Promise<void> {
    this.run('kill', [`-${signalName}`, String(this.#state.services[name])], { allowFailure: true });
    await eventually(() => !this.serviceRuns(name), `the end of ${name} on ${this.name}`, 30_000);
    const { [name]: _, ...services } = this.#state.services;
    this.#write({ ...this.#state, services });
  }

  services(): string[] {
    return Object.keys(this.#read()?.services ?? {});
  }

  serviceRuns(name: string): boolean {
    const pid = this.#read()?.services[name];
    return pid !== undefined && this.run('kill', ['-0', String(pid)], { allowFailure: true }).status === 0;
  }

  /** The end of a service's log. */
  log(service: string, bytes = 2000): string {
    const file = this.#logFile(service);
    return existsSync(file) ? readFileSync(file, 'utf8').slice(-bytes) : '';
  }

  /** Writes a file into the machine's folder and returns its path, the same inside and outside. */
  write(name: string, text: string): string {
    const path = join(this.folder, name);
    writeFileSync(path, text);
    return path;
  }

  get #stateFile(): string {
    return join(this.folder, 'state.json');
  }

  #logFile(service: string): string {
    return join(this.folder, `${service}.log`);
  }

  #enter(): string[] {
    return ['--target', String(this.pid), '--mount', '--uts', '--ipc', '--net', '--pid', '--'];
  }

  #read(): MachineState | undefined {
    return existsSync(this.#stateFile) ? JSON.parse(readFileSync(this.#stateFile, 'utf8')) : undefined;
  }

  get #state(): MachineState {
    const state = this.#read();
    if (!state || !lives(state.first)) throw new Error(`${this.name} is not running`);
    return state;
  }

  #write(state: MachineState): void {
    writeFileSync(this.#stateFile, JSON.stringify(state));
  }
}

export function runCommand(command: string, args: readonly string[], options: RunOptions = {}): RunResult {
  const { input, timeoutMs = 120_000, allowFailure = false } = options;
  const done = spawnSync(command, args, {
    encoding: 'utf8',
    maxBuffer: 64 << 20,
    timeout: timeoutMs,
    ...(input === undefined ? {} : { input }),
  });
  if (done.error) throw done.error;
  const result = { status: done.status ?? 128, stdout: done.stdout, stderr: done.stderr };
  if (result.status !== 0 && !allowFailure) {
    const said = `${result.stdout}${result.stderr}`.trim();
    throw new Error(`${command} ${args.join(' ')}: exit ${result.status}${said && `: ${said}`}`);
  }
  return result;
}

function identify(pid: number): ProcessId | undefined {
  try {
    // The second field, the name in parentheses, may hold blanks.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ');
    // A zombie has ended.
    return fields[0] === 'Z' ? undefined : { pid, started: fields[19] };
  } catch {
    return undefined;
  }
}

/** Its threads run: a process that only waits to be asked for its exit code has ended. */
const lives = ({ pid, started }: ProcessId): boolean => identify(pid)?.started === started;

function firstChild(pid: number): ProcessId | undefined {
  const child = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
  return child === '' ? undefined : identify(Number(child));
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // It ended meanwhile.
  }
}

/** The host lacks some of the folders that a machine has its own at: empty ones stand in. */
function makeMountPoints(): void {
  for (const path of OWN_PATHS) mkdirSync(path, { recursive: true });
}

/**
 * The empty ones go again. Only when no machine runs on this host: the kernel takes a mount down everywhere when
 * its mount point is removed in one namespace.
 */
export function removeMountPoints(): void {
  for (const path of OWN_PATHS) if (existsSync(path) && readdirSync(path).length === 0) rmdirSync(path);
}
