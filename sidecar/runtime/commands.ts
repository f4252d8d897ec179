/**
 * What the command line knows: each command, its arguments and options, in one table from which arguments are
 * read, `--help` is written, and which `docs/commands.md` mirrors (a test keeps the two alike).
 */
import { commonOptions, type OptionTable, optionRows, table } from '../../command-line/arguments.ts';
import { DEFAULT_INJECT_MARK, DEFAULT_MASK, hexMark } from '../../netfilter/marks.ts';

export interface Command {
  readonly name: string;
  readonly summary: string;
  readonly positionals: readonly string[];
  readonly options: OptionTable;
  /** More for the help, a paragraph each. */
  readonly notes?: readonly string[];
}

export const DEFAULT_API_SOCKET = '/run/tcpcrypt/api.sock';
const DEFAULT_FIRST_QUEUE = '5440';

const client = {
  'api-socket': {
    type: 'string',
    value: 'PATH',
    default: DEFAULT_API_SOCKET,
    help: 'where the running `tcpcrypt run` answers',
  },
} as const satisfies OptionTable;

/** What the rules and the process that serves them must agree on. */
const rules = {
  'first-queue': {
    type: 'string',
    value: 'NUMBER',
    default: DEFAULT_FIRST_QUEUE,
    help: 'the first of three NFQUEUE numbers for each worker: set-up, data, super-segments',
  },
  workers: {
    type: 'string',
    value: 'NUMBER',
    default: '1',
    help: 'packet threads, 1 to 8; the connections between two addresses are all of one',
  },
  'mark-mask': {
    type: 'string',
    value: 'MASK',
    default: hexMark(DEFAULT_MASK),
    help: 'six contiguous bits of packet and connection marks that nobody else uses',
  },
  'inject-mark': {
    type: 'string',
    value: 'BIT',
    default: hexMark(DEFAULT_INJECT_MARK),
    help: "one more bit, for the rewriter's own packets",
  },
  strict: {
    type: 'boolean',
    help: 'new connections wait for the rewriter; without this they go plain when it is not there',
  },
  encoding: {
    type: 'string',
    value: 'NAME',
    default: 'experimental',
    help: 'TCP option kinds: experimental (253) or, for closed networks, legacy (69 and 70)',
  },
  'exclude-port': {
    type: 'string',
    value: 'PORT[:END]',
    multiple: true,
    help: 'connections to these ports are not touched; may be repeated',
  },
  'exclude-cidr': {
    type: 'string',
    value: 'CIDR',
    multiple: true,
    help: 'connections with these peers are not touched; may be repeated',
  },
  'new-namespace': {
    type: 'boolean',
    help: 'the rules are older than any socket here: a packet of an unknown connection is the rewriter’s to judge',
  },
} as const satisfies OptionTable;

export const commands = {
  run: {
    name: 'run',
    summary: 'Encrypts the TCP connections of this network namespace',
    positionals: [],
    options: {
      policy: {
        type: 'string',
        value: 'FILE',
        help: 'policy, YAML or JSON; watched (default: opportunistic everywhere)',
      },
      'initial-policy': {
        type: 'string',
        value: 'JSON',
        help: 'the policy to begin with where no file is named and the state directory has none',
      },
      keys: { type: 'string', value: 'FILE', help: 'trust-domain keys; watched' },
      'state-dir': {
        type: 'string',
        value: 'DIR',
        help: 'on tmpfs: connections outlive a restart, and the last policy and keys are kept',
      },
      'api-socket': {
        type: 'string',
        value: 'PATH',
        default: DEFAULT_API_SOCKET,
        help: 'the local API, for everybody who can reach the path; none turns it off',
      },
      'control-socket': {
        type: 'string',
        value: 'PATH',
        help: 'the same and more, for root only: policy, keys',
      },
      'metrics-listen': {
        type: 'string',
        value: 'ADDR:PORT',
        default: '[::]:19090',
        help: '/metrics, /healthz, /readyz; none turns it off',
      },
      'install-rules': {
        type: 'boolean',
        help: 'puts the packet-filter rules in at start and takes them out at stop',
      },
      'ensure-rules': {
        type: 'boolean',
        help: 'puts them in at start only where there are none, and leaves them at stop: for a pod',
      },
      grace: {
        type: 'string',
        value: 'SECONDS',
        default: '25',
        help: 'after SIGTERM, how long encrypted connections may take to get their last bytes acknowledged',
      },
      'cluster-cidr': {
        type: 'string',
        value: 'CIDR',
        multiple: true,
        help: 'peers that metrics call cluster; may be repeated',
      },
      'node-cidr': {
        type: 'string',
        value: 'CIDR',
        multiple: true,
        help: 'peers that metrics call node, and with any the default gateways: an address or a block; may be repeated',
      },
      ...rules,
      'reconcile-interval': {
        type: 'string',
        value: 'SECONDS',
        default: '5',
        hidden: true,
        help: "how often the table is compared with the kernel's sockets",
      },
      ...commonOptions,
    },
    notes: [
      'Prints `ready` on standard output when packets are handled. SIGHUP reads policy and keys again; SIGTERM and SIGINT stop, a second one at once.',
      'TCPCRYPT_KEYLOGFILE=PATH appends the secret of each encrypted connection to PATH, for debugging only.',
    ],
  },
  'rules install': {
    name: 'rules install',
    summary: 'Puts the packet-filter rules into this network namespace',
    positionals: [],
    options: { ...rules, ...commonOptions },
    notes: ['Nothing changes if they are there already.'],
  },
  'rules verify': {
    name: 'rules verify',
    summary: 'Says how the packet-filter rules differ from what `rules install` would put in',
    positionals: [],
    options: { ...rules, ...commonOptions },
    notes: ['Exits with 1 if they differ.'],
  },
  'rules remove': {
    name: 'rules remove',
    summary: 'Takes the packet-filter rules out',
    positionals: [],
    options: { ...commonOptions },
  },
  connections: {
    name: 'connections',
    summary: 'Shows the connections',
    positionals: [],
    options: {
      json: { type: 'boolean', help: 'as JSON' },
      watch: { type: 'boolean', help: 'again each second, until it is interrupted' },
      ...client,
      ...commonOptions,
    },
  },
  'session-id': {
    name: 'session-id',
    summary: 'Prints the session ID of a connection, in hex',
    positionals: ['LOCAL', 'REMOTE'],
    options: { ...client, ...commonOptions },
    notes: ['LOCAL and REMOTE are address:port, with IPv6 addresses in brackets.'],
  },
  metrics: {
    name: 'metrics',
    summary: 'Prints the metrics',
    positionals: [],
    options: { ...client, ...commonOptions },
  },
} as const satisfies Record<string, Command>;

export type CommandName = keyof typeof commands;

export const environment = {
  TCPCRYPT_KEYLOGFILE: 'a file to which `run` appends session secrets, for debugging',
  TCPCRYPT_NODE: 'the Node.js that bin/tcpcrypt starts, where it is not the pinned one',
  TCPCRYPT_PROGRAM: 'what bin/tcpcrypt starts with it, where it is not the sources',
} as const;

export function helpFor(command: Command): string {
  const usage = ['tcpcrypt', command.name, '[options]', ...command.positionals].join(' ');
  const notes = (command.notes ?? []).map((note) => `\n${note}\n`);
  return `${command.summary}.\n\nUsage: ${usage}\n\nOptions:\n${optionRows(command.options)}${notes.join('')}`;
}

export function generalHelp(): string {
  const rows = Object.values<Command>(commands).map(
    ({ name, positionals, summary }) => [`  ${[name, ...positionals].join(' ')}`, summary] as const,
  );
  return `tcpcrypt: encrypts TCP connections, with no change to applications.

Usage: tcpcrypt COMMAND [options]

Commands:
${table(rows)}
tcpcrypt COMMAND --help says more. Exit status: 0 success, 1 failure, 2 wrong usage.
`;
}
