/**
 * What the tests of the packet-filter rules share: two hosts with rules in one of them, a stand-in for the rewriter
 * (`responder.ts` in a process of its own, so that it can be stopped), and a conversation line by line.
 */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Variant } from '../../../netfilter/iptables.ts';
import { type ConnectionState, markLayout, stateOf, workerOf } from '../../../netfilter/marks.ts';
import { install } from '../../../netfilter/namespace.ts';
import type { RuleOptions } from '../../../netfilter/rules.ts';
import { applySettings } from '../../../netfilter/sysctls.ts';
import { type Host, Lab } from './namespaces.ts';
import type { Answers, Seen } from './rules-responder.ts';

export const layout = markLayout();

export const options: RuleOptions = {
  setupQueues: { first: 100, count: 1 },
  dataQueues: { first: 110, count: 1 },
  superSegmentQueues: { first: 120, count: 1 },
  strict: false,
  dataWhenNoState: true,
};

/** a and b on one cable; `a` has the rules. */
export class RulesLab implements Disposable {
  readonly lab = new Lab();
  readonly a = this.lab.host('a');
  readonly b = this.lab.host('b');
  readonly options: RuleOptions;
  readonly variant: Variant;

  constructor(changes: Partial<RuleOptions> = {}, variant: Variant = 'nft') {
    this.options = { ...options, ...changes };
    this.variant = variant;
    this.lab.link(this.a, this.b);
  }

  async install(changes: Partial<RuleOptions> = {}): Promise<void> {
    const where = { netns: this.a.nsPath, variant: this.variant };
    await install({ ...this.options, ...changes }, where);
    await applySettings(where);
  }

  /** Adds somebody else's rule to `a`: `rule('-t nat -A OUTPUT …')`. */
  rule(text: string): void {
    this.a.run(`iptables-${this.variant}`, text.split(' '));
  }

  [Symbol.dispose](): void {
    this.lab.dispose();
  }
}

/** The lines that a process writes. */
export class Lines {
  readonly all: string[] = [];
  #changed: () => void = () => {};

  constructor(child: ChildProcess) {
    let rest = '';
    child.stdout!.setEncoding('utf8').on('data', (text: string) => {
      const parts = (rest + text).split('\n');
      rest = parts.pop()!;
      this.all.push(...parts);
      this.#changed();
    });
  }

  /** Line `index`, or undefined if it has not come after so long. */
  async at(index: number, timeoutMs: number): Promise<string | undefined> {
    const deadline = performance.now() + timeoutMs;
    while (this.all.length <= index) {
      const left = deadline - performance.now();
      if (left <= 0) return undefined;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#changed = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    return this.all[index];
  }
}

const stdio = ['pipe', 'pipe', 'inherit'] as const;

const serverSource = `
  const server = require('node:net').createServer({ noDelay: true, allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {}).on('data', (data) => socket.write(data)).on('end', () => console.log('end'));
  });
  server.listen(+process.argv[1], '::', () => console.log('ready'));`;

/** Starts a server on a host that sends back what it gets. */
export async function echo(host: Host, port = 80): Promise<ChildProcess> {
  const server = host.spawnNode('-e', [serverSource, String(port)], { stdio: [...stdio] });
  assert.equal(await new Lines(server).at(0, 10_000), 'ready');
  return server;
}

const clientSource = `
  const [host, port, localPort] = process.argv.slice(1);
  const options = { host, port: +port, noDelay: true, allowHalfOpen: true, ...(localPort ? { localPort: +localPort } : {}) };
  const socket = require('node:net').connect(options, () => console.log('connected'));
  socket.on('data', (data) => process.stdout.write(data)).on('error', (error) => { console.log(error.code); process.exit(); });
  socket.on('end', () => console.log('end')).on('close', () => process.exit());
  process.stdin.on('data', (data) => socket.write(data)).on('end', () => socket.end());`;

/** One connection, from a process of its own. */
export class Client {
  readonly child: ChildProcess;
  readonly lines: Lines;
  #said = 0;

  constructor(host: Host, address: string, port = 80, localPort?: number) {
    const args = [address, String(port), ...(localPort === undefined ? [] : [String(localPort)])];
    this.child = host.spawnNode('-e', [clientSource, ...args], { stdio: [...stdio] });
    this.lines = new Lines(this.child);
  }

  /** 'connected', an error's code, or undefined after so long. */
  async connected(timeoutMs = 10_000): Promise<string | undefined> {
    return await this.lines.at(0, timeoutMs);
  }

  /** Sends a line and returns what comes back: the same line, if all is well; undefined after so long. */
  async say(text: string, timeoutMs = 10_000): Promise<string | undefined> {
    this.child.stdin!.write(`${text}\n`);
    return await this.lines.at(++this.#said, timeoutMs);
  }

  /** The next line, of something said before. */
  async answer(timeoutMs = 10_000): Promise<string | undefined> {
    return await this.lines.at(this.#said, timeoutMs);
  }
}

const responderFile = fileURLToPath(import.meta.resolve('./rules-responder.ts'));

/** The stand-in for the rewriter; `using`, or `stop()` in the middle of a test. */
export class Responder implements Disposable {
  readonly child: ChildProcess;
  readonly lines: Lines;

  private constructor(child: ChildProcess) {
    this.child = child;
    this.lines = new Lines(child);
  }

  static async start(host: Host, answers: Answers = {}): Promise<Responder> {
    const responder = new Responder(
      host.spawnNode(responderFile, [JSON.stringify(answers)], { stdio: [...stdio] }),
    );
    assert.equal(await responder.lines.at(0, 10_000), 'ready');
    return responder;
  }

  /** The packets it has had, in order. */
  get seen(): Seen[] {
    return this.lines.all.slice(1).map((line) => JSON.parse(line));
  }

  /** Waits until no packet has come for so long. */
  async quiet(ms = 150): Promise<void> {
    while ((await this.lines.at(this.lines.all.length, ms)) !== undefined);
  }

  /** The first packet that fits, once it has come; undefined after so long. */
  async find(fits: (seen: Seen) => boolean, timeoutMs = 5000): Promise<Seen | undefined> {
    for (let i = 1; ; i++) {
      const line = await this.lines.at(i, timeoutMs);
      if (line === undefined) return undefined;
      const seen = JSON.parse(line) as Seen;
      if (fits(seen)) return seen;
    }
  }

  /** The packets of one kind, such as 'setup SYN'. */
  count(kind: string, flags?: string): number {
    return this.seen.filter((seen) => seen.kind === kind && (flags === undefined || seen.flags === flags))
      .length;
  }

  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const gone = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await gone;
  }

  [Symbol.dispose](): void {
    this.child.kill('SIGKILL');
  }
}

export interface Tracked {
  readonly line: string;
  readonly mark: number;
  readonly state: ConnectionState;
  readonly worker: number;
  readonly timeoutSeconds: number;
}

/** conntrack's entries of a host for connections to a port; one that was lost may begin with an answer. */
export function tracked(host: Host, port = 80, protocol = 'tcp'): Tracked[] {
  const both = ['ipv4', 'ipv6'].map((family) => {
    return host.run('conntrack', ['-L', '-f', family, '-p', protocol]).stdout;
  });
  return both
    .flatMap((text) => text.split('\n').filter((line) => line.includes(`port=${port} `)))
    .map((line) => {
      const mark = Number(/ mark=(\d+)/.exec(line)?.[1] ?? 0);
      const timeoutSeconds = Number(/^\S+\s+\d+\s+(\d+)/.exec(line)?.[1]);
      return { line, mark, state: stateOf(layout, mark), worker: workerOf(layout, mark), timeoutSeconds };
    });
}

/** Packets that a rule has matched. `fits` looks at its text. */
export function matched(host: Host, fits: RegExp, variant: Variant = 'nft', family = ''): number {
  const { stdout } = host.run(`ip${family}tables-${variant}-save`, ['-c']);
  const rules = stdout.split('\n').filter((line) => fits.test(line));
  assert.notEqual(rules.length, 0, `no rule fits ${fits}`);
  return rules.reduce((sum, line) => sum + Number(/^\[(\d+):/.exec(line)![1]), 0);
}
