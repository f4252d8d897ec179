/** The command line, parsed and checked: what comes out of here can be used as it is. */
import { durationMs, integer, oneOf, parse, usage } from '../../command-line/arguments.ts';
import { MAX_WORKERS, markLayout } from '../../netfilter/marks.ts';
import { type PortRange, queueRanges, type RuleOptions } from '../../netfilter/rules.ts';
import { type LogLevel, logLevels } from '../../observability/log.ts';
import { type ListenAddress, parseListenAddress } from '../../observability/metrics-server.ts';
import { type Command, type CommandName, commands, generalHelp, helpFor } from './commands.ts';
import { parseBlocks } from './peers.ts';

export interface RunOptions {
  readonly policyFile: string | undefined;
  readonly initialPolicy: string | undefined;
  readonly keysFile: string | undefined;
  readonly stateDir: string | undefined;
  readonly apiSocket: string | undefined;
  readonly controlSocket: string | undefined;
  readonly metricsListen: ListenAddress | undefined;
  readonly installRules: boolean;
  readonly ensureRules: boolean;
  readonly graceMs: number;
  readonly clusterCidrs: readonly string[];
  readonly nodeCidrs: readonly string[];
  readonly encoding: 'experimental' | 'legacy';
  readonly rules: RuleOptions & { readonly mask: number; readonly injectMark: number };
  readonly reconcileMs: number;
}

export type Invocation =
  | { readonly kind: 'print'; readonly text: string }
  | { readonly kind: 'version' }
  | { readonly kind: 'run'; readonly logLevel: LogLevel; readonly options: RunOptions }
  | {
      readonly kind: 'rules';
      readonly action: 'install' | 'verify' | 'remove';
      readonly logLevel: LogLevel;
      readonly rules: RuleOptions | undefined;
    }
  | {
      readonly kind: 'connections';
      readonly apiSocket: string;
      readonly json: boolean;
      readonly watch: boolean;
    }
  | {
      readonly kind: 'session-id';
      readonly apiSocket: string;
      readonly local: string;
      readonly remote: string;
    }
  | { readonly kind: 'metrics'; readonly apiSocket: string };

type Values = Readonly<Record<string, string | boolean | readonly string[] | undefined>>;

/** Throws ERR_TCPCRYPT_USAGE. */
export function parseArguments(args: readonly string[]): Invocation {
  const firstOption = args.findIndex((arg) => arg.startsWith('-'));
  const words = firstOption < 0 ? args : args.slice(0, firstOption);
  const name = words.slice(0, words[0] === 'rules' ? 2 : 1).join(' ');
  if (name === '' || (name === 'rules' && args.includes('--help'))) {
    if (args.includes('--help')) return { kind: 'print', text: generalHelp() };
    if (args.includes('--version')) return { kind: 'version' };
    throw usage('no command');
  }
  if (name === 'rules') throw usage('rules takes install, verify or remove');
  if (!(name in commands)) throw usage(`there is no command ${name}`);
  const command: Command = commands[name as CommandName];
  const parsed = parse(args.slice(name.split(' ').length), command.options);
  const { positionals } = parsed;
  const values = parsed.values as Values;
  if (values['help'] === true) return { kind: 'print', text: helpFor(command) };
  if (values['version'] === true) return { kind: 'version' };
  if (positionals.length !== command.positionals.length) {
    const expected = command.positionals.length === 0 ? 'no arguments' : command.positionals.join(' and ');
    throw usage(`${name} takes ${expected}`);
  }
  return invocation(name as CommandName, values, positionals);
}

function invocation(name: CommandName, values: Values, positionals: readonly string[]): Invocation {
  const logLevel = oneOf('log-level', text(values, 'log-level'), logLevels);
  switch (name) {
    case 'run':
      return { kind: 'run', logLevel, options: runOptions(values) };
    case 'rules install':
      return { kind: 'rules', action: 'install', logLevel, rules: ruleOptions(values) };
    case 'rules verify':
      return { kind: 'rules', action: 'verify', logLevel, rules: ruleOptions(values) };
    case 'rules remove':
      return { kind: 'rules', action: 'remove', logLevel, rules: undefined };
    case 'connections':
      return {
        kind: 'connections',
        apiSocket: text(values, 'api-socket'),
        json: values['json'] === true,
        watch: values['watch'] === true,
      };
    case 'session-id': {
      const [local, remote] = positionals as [string, string];
      return { kind: 'session-id', apiSocket: text(values, 'api-socket'), local, remote };
    }
    case 'metrics':
      return { kind: 'metrics', apiSocket: text(values, 'api-socket') };
  }
}

function runOptions(values: Values): RunOptions {
  const rules = ruleOptions(values);
  parseBlocks([...list(values, 'cluster-cidr'), ...list(values, 'node-cidr')]);
  return {
    policyFile: optional(values, 'policy'),
    initialPolicy: optional(values, 'initial-policy'),
    keysFile: optional(values, 'keys'),
    stateDir: optional(values, 'state-dir'),
    apiSocket: unlessNone(text(values, 'api-socket')),
    controlSocket: optional(values, 'control-socket'),
    metricsListen: parseListenAddress(text(values, 'metrics-listen')),
    installRules: values['install-rules'] === true,
    ensureRules: values['ensure-rules'] === true,
    graceMs: durationMs('grace', text(values, 'grace')),
    clusterCidrs: list(values, 'cluster-cidr'),
    nodeCidrs: list(values, 'node-cidr'),
    encoding: oneOf('encoding', text(values, 'encoding'), ['experimental', 'legacy']),
    rules,
    reconcileMs: Math.max(10, durationMs('reconcile-interval', text(values, 'reconcile-interval'))),
  };
}

function ruleOptions(values: Values): RunOptions['rules'] {
  const workers = integer('workers', text(values, 'workers'), 1, MAX_WORKERS);
  const first = integer('first-queue', text(values, 'first-queue'), 0, 0x10000 - 3 * workers);
  const mask = integer('mark-mask', text(values, 'mark-mask'), 1, 0xffffffff);
  const injectMark = integer('inject-mark', text(values, 'inject-mark'), 1, 0xffffffff);
  markLayout(mask, injectMark);
  const encoding = oneOf('encoding', text(values, 'encoding'), ['experimental', 'legacy']);
  const cidrs = list(values, 'exclude-cidr');
  parseBlocks(cidrs);
  return {
    mask,
    injectMark,
    ...queueRanges(first, workers),
    strict: values['strict'] === true,
    dataWhenNoState: values['new-namespace'] === true,
    optionKinds: encoding === 'legacy' ? [253, 69, 70] : [253],
    excludePorts: list(values, 'exclude-port').map(portRange),
    excludeCidrs: cidrs,
  };
}

function portRange(value: string): PortRange {
  const match = /^(\d{1,5})(?:[:-](\d{1,5}))?$/.exec(value);
  const port = Number(match?.[1]);
  const endPort = Number(match?.[2] ?? port);
  if (match === null || port < 1 || endPort < port || endPort > 65_535) {
    throw usage(`--exclude-port ${value} is not PORT or PORT:END`);
  }
  return { port, endPort };
}

function text(values: Values, name: string): string {
  return values[name] as string;
}

function optional(values: Values, name: string): string | undefined {
  const value = values[name] as string | undefined;
  if (value === '') throw usage(`--${name} is empty`);
  return value;
}

function unlessNone(value: string): string | undefined {
  return value === 'none' ? undefined : value;
}

function list(values: Values, name: string): readonly string[] {
  return (values[name] as readonly string[] | undefined) ?? [];
}
