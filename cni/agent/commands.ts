/** The agent's command line: what it knows, in one table from which arguments are read and help is written. */
import {
  commonOptions,
  durationMs,
  type OptionTable,
  oneOf,
  optionRows,
  parse,
  required,
  usage,
} from '../../command-line/arguments.ts';
import { VARIANTS, type Variant } from '../../netfilter/iptables.ts';
import { type LogLevel, logLevels } from '../../observability/log.ts';
import { type ListenAddress, parseListenAddress } from '../../observability/metrics-server.ts';

export interface RunOptions {
  readonly nodeName: string;
  readonly namespace: string;
  readonly daemonSet: string;
  readonly kubeconfig: string | undefined;
  readonly socket: string;
  readonly stateDir: string;
  readonly kubeletDir: string;
  /** Undefined: nothing is installed. */
  readonly cni: { readonly binDir: string; readonly confDir: string } | undefined;
  readonly agentUnavailable: 'Fail' | 'Skip';
  readonly exemptNamespaces: readonly string[];
  /** Undefined: where the image or the tree has it. */
  readonly executable: string | undefined;
  readonly variant: Variant | undefined;
  readonly metricsListen: ListenAddress | undefined;
  readonly keepMs: number;
  readonly collectMs: number;
}

export type Invocation =
  | { readonly kind: 'print'; readonly text: string }
  | { readonly kind: 'version' }
  | { readonly kind: 'run'; readonly logLevel: LogLevel; readonly options: RunOptions };

export const options = {
  'node-name': { type: 'string', value: 'NAME', help: 'this node (default $NODE_NAME)' },
  namespace: { type: 'string', value: 'NAME', help: "the release's namespace (default $POD_NAMESPACE)" },
  daemonset: {
    type: 'string',
    value: 'NAME',
    default: '',
    help: 'our own; when it is gone at the end, the plugin is uninstalled',
  },
  kubeconfig: {
    type: 'string',
    value: 'FILE',
    help: 'how to reach the API server (default: the service account)',
  },
  socket: {
    type: 'string',
    value: 'PATH',
    default: '/run/tcpcrypt-node/agent.sock',
    help: 'where the plugin asks; the same path on the node and here',
  },
  'state-dir': {
    type: 'string',
    value: 'DIR',
    default: '/run/tcpcrypt-node',
    help: "what was done to which pod; on the node's /run",
  },
  'kubelet-dir': {
    type: 'string',
    value: 'DIR',
    default: '/var/lib/kubelet',
    help: "the kubelet's root folder",
  },
  'cni-bin-dir': { type: 'string', value: 'DIR', default: '/opt/cni/bin', help: "the runtime's plugins" },
  'cni-conf-dir': {
    type: 'string',
    value: 'DIR',
    default: '/etc/cni/net.d',
    help: "the runtime's configurations",
  },
  'no-cni': { type: 'boolean', help: 'installs nothing: pods get their rules when they are seen' },
  'agent-unavailable': {
    type: 'string',
    value: 'Skip|Fail',
    default: 'Skip',
    help: 'what becomes of new pods while no agent answers',
  },
  'exempt-namespace': {
    type: 'string',
    value: 'NAME',
    multiple: true,
    help: 'one that Fail spares, besides kube-system and our own; may be repeated',
  },
  executable: {
    type: 'string',
    value: 'FILE',
    help: 'the static executable to install (default: the one of the image)',
  },
  iptables: { type: 'string', value: 'nft|legacy|auto', default: 'auto', help: 'which variant to use' },
  'metrics-listen': {
    type: 'string',
    value: 'ADDR:PORT',
    default: '[::]:19091',
    help: '/metrics, /healthz, /readyz; none turns it off',
  },
  'keep-interval': {
    type: 'string',
    value: 'SECONDS',
    default: '300',
    help: 'how often the rules of every pod are looked at',
  },
  'collect-interval': {
    type: 'string',
    value: 'SECONDS',
    default: '10',
    help: 'how often the sidecars are asked what they counted',
  },
  ...commonOptions,
} as const satisfies OptionTable;

/** Throws ERR_TCPCRYPT_USAGE. */
export function parseCommand(args: readonly string[], environment: NodeJS.ProcessEnv): Invocation {
  const { values, positionals } = parse(args, options);
  if (values.help) return { kind: 'print', text: help() };
  if (values.version) return { kind: 'version' };
  if (positionals.join(' ') !== 'run') throw usage('the one command is run');
  const { 'cni-bin-dir': binDir, 'cni-conf-dir': confDir } = values;
  const namespace = required('namespace', values.namespace ?? environment['POD_NAMESPACE']);
  return {
    kind: 'run',
    logLevel: oneOf('log-level', values['log-level'], logLevels),
    options: {
      namespace,
      nodeName: required('node-name', values['node-name'] ?? environment['NODE_NAME']),
      daemonSet: values.daemonset,
      kubeconfig: values.kubeconfig,
      socket: values.socket,
      stateDir: values['state-dir'],
      kubeletDir: values['kubelet-dir'],
      cni: values['no-cni'] ? undefined : { binDir, confDir },
      agentUnavailable: oneOf('agent-unavailable', values['agent-unavailable'], ['Skip', 'Fail']),
      exemptNamespaces: [...new Set(['kube-system', namespace, ...(values['exempt-namespace'] ?? [])])],
      executable: values.executable,
      variant: values.iptables === 'auto' ? undefined : oneOf('iptables', values.iptables, VARIANTS),
      metricsListen: parseListenAddress(values['metrics-listen']),
      keepMs: intervalMs('keep-interval', values['keep-interval']),
      collectMs: intervalMs('collect-interval', values['collect-interval']),
    },
  };
}

function help(): string {
  return `tcpcrypt-node-agent: installs the CNI plugin on a node, keeps the rules of its pods, speaks with their sidecars.

Usage: tcpcrypt-node-agent run [options]

Options:
${optionRows(options)}
SIGTERM ends it; everything stays as it is, unless its DaemonSet is gone. Exit status: 0 success, 1 failure,
2 wrong usage.
`;
}

/** Not 0. */
function intervalMs(name: string, value: string): number {
  const milliseconds = durationMs(name, value);
  if (milliseconds === 0) throw usage(`--${name} is 0`);
  return milliseconds;
}
