/** Network namespaces, processes in them and packets, for the tests of this folder. */

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setImmediate } from 'node:timers/promises';
import { descriptor, packetFlags, type Queue, verdicts } from '../index.ts';

/** For `test`'s `skip`. */
export const skipWithoutRoot =
  process.getuid?.() === 0 ? false : 'needs root: it makes network namespaces and binds NFQUEUE';

function sh(...command: string[]): string {
  return execFileSync(command[0]!, command.slice(1), { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

let made = 0;

/** Two namespaces, `a` (10.77.0.1, fd77::1) and `b` (10.77.0.2, fd77::2), joined by a veth pair. */
export class Pair implements Disposable {
  readonly a: Namespace;
  readonly b: Namespace;

  constructor() {
    const name = `nfqt${process.pid}x${made++}`;
    this.a = new Namespace(`${name}a`);
    this.b = new Namespace(`${name}b`);
    sh('ip', '-n', this.a.name, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'eth0', 'netns', this.b.name);
    for (const [namespace, host] of [
      [this.a, 1],
      [this.b, 2],
    ] as const) {
      sh('ip', '-n', namespace.name, 'addr', 'add', `10.77.0.${host}/24`, 'dev', 'eth0');
      sh('ip', '-n', namespace.name, 'addr', 'add', `fd77::${host}/64`, 'dev', 'eth0', 'nodad');
      sh('ip', '-n', namespace.name, 'link', 'set', 'eth0', 'up');
    }
  }

  [Symbol.dispose](): void {
    this.a.remove();
    this.b.remove();
  }
}

export class Namespace {
  readonly name: string;
  readonly path: string;
  readonly #processes: ChildProcess[] = [];

  constructor(name: string) {
    this.name = name;
    this.path = `/run/netns/${name}`;
    sh('ip', 'netns', 'add', name);
    sh('ip', '-n', name, 'link', 'set', 'lo', 'up');
  }

  run(command: string): string {
    return sh('ip', 'netns', 'exec', this.name, 'sh', '-c', command);
  }

  /** Runs JavaScript in the namespace; what it prints comes out of `line`, one at a time. */
  start(code: string): Program {
    const child = spawn('ip', ['netns', 'exec', this.name, process.execPath, '-e', code], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.#processes.push(child);
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const exited = once(child, 'exit');
    return {
      line: async () => (await lines.next()).value ?? '',
      exited: async () => void (await exited),
      kill: () => void child.kill('SIGKILL'),
    };
  }

  remove(): void {
    for (const child of this.#processes) child.kill('SIGKILL');
    sh('ip', 'netns', 'del', this.name);
  }
}

export interface Program {
  line(): Promise<string>;
  exited(): Promise<void>;
  kill(): void;
}

/** A queued packet, its bytes copied out of the ring. */
export interface Packet {
  readonly id: number;
  /** A copy, and where it was in the ring. */
  readonly bytes: Buffer;
  readonly offset: number;
  readonly hook: number;
  readonly mark: number;
  readonly inIfindex: number;
  readonly outIfindex: number;
  readonly checksumNotReady: boolean;
  readonly gso: boolean;
  readonly cut: boolean;
}

/** One `receive` and its packets. */
export function receive(queue: Queue, timeoutMs: number): Packet[] {
  const count = queue.receive(timeoutMs);
  const field = (i: number, at: number): number => queue.descriptors[i * descriptor.stride + at]!;
  return Array.from({ length: count }, (_, i) => {
    const offset = field(i, descriptor.offset);
    const flags = field(i, descriptor.flags);
    return {
      id: field(i, descriptor.id),
      offset,
      bytes: Buffer.from(queue.ring.subarray(offset, offset + field(i, descriptor.length))),
      hook: field(i, descriptor.hook),
      mark: field(i, descriptor.mark),
      inIfindex: field(i, descriptor.inIfindex),
      outIfindex: field(i, descriptor.outIfindex),
      checksumNotReady: (flags & packetFlags.checksumNotReady) !== 0,
      gso: (flags & packetFlags.gso) !== 0,
      cut: (flags & packetFlags.cut) !== 0,
    };
  });
}

const patienceMs = 20_000;

/** Hands each packet to `handle`, and sends the verdicts, until `done` (a promise, or a condition). */
export async function pump(
  queue: Queue,
  handle: (packet: Packet) => void,
  done: Promise<unknown> | (() => boolean),
): Promise<void> {
  let finished = false;
  const condition = typeof done === 'function' ? done : () => finished;
  if (typeof done !== 'function') {
    const finish = () => {
      finished = true;
    };
    done.then(finish, finish);
  }
  const until = Date.now() + patienceMs;
  while (!condition()) {
    if (Date.now() > until) throw new Error('the packets awaited did not come');
    for (const packet of receive(queue, 2)) handle(packet);
    queue.flush();
    await setImmediate();
  }
  if (typeof done !== 'function') await done;
}

export function acceptAll(queue: Queue): (packet: Packet) => void {
  return (packet) => queue.verdict(packet.id, verdicts.accept);
}

/** JavaScript for `start`: a server that answers each chunk with itself and prints it, and says `ready`. */
export const echoServer = (port: number, host = '::'): string => `
  require('node:net').createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', (data) => { console.log(String(data)); socket.write(data); });
    socket.on('end', () => socket.end());
  }).listen({ port: ${port}, host: '${host}' }, () => console.log('ready'));`;

/** A client that sends `text`, prints the answer of the same length, and ends. */
export const client = (port: number, text: string, host = '10.77.0.2'): string => `
  const socket = require('node:net').connect({ port: ${port}, host: '${host}' });
  let answer = '';
  socket.on('connect', () => socket.write('${text}'));
  socket.on('data', (data) => { answer += data; if (answer.length >= ${text.length}) socket.end(); });
  socket.on('error', (error) => { answer = error.code; });
  socket.on('close', () => console.log(answer));`;
