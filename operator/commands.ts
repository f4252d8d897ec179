/** The operator's command line: what it knows, in one table from which arguments are read and help is written. */
import { commonOptions, integer, oneOf, parse, required, usage } from '../command-line/arguments.ts';
import { API_DIR, API_SOCKET_FILE } from '../kubernetes/names.ts';
import { type LogLevel, logLevels } from '../observability/log.ts';

export type Invocation =
  | { readonly kind: 'print'; readonly text: string }
  | { readonly kind: 'version' }
  | {
      readonly kind: 'run';
      readonly logLevel: LogLevel;
      readonly config: string;
      readonly namespace: string;
      readonly identity: string;
      readonly kubeconfig: string | undefined;
    }
  | {
      readonly kind: 'remove-agents';
      readonly daemonSet: string;
      readonly namespace: string;
      readonly waitMs: number;
      readonly kubeconfig: string | undefined;
    }
  | ({ readonly kind: 'self-test-server' } & SelfTestPlace)
  | ({ readonly kind: 'self-test'; readonly host: string; readonly waitMs: number } & SelfTestPlace);

export interface SelfTestPlace {
  readonly port: number;
  /** The pod's own sidecar. */
  readonly apiSocket: string;
}

const DEFAULT_PORT = '8080';

const options = {
  config: { type: 'string', default: '/etc/tcpcrypt/operator.yaml' },
  namespace: { type: 'string' },
  identity: { type: 'string' },
  kubeconfig: { type: 'string' },
  port: { type: 'string', default: DEFAULT_PORT },
  'api-socket': { type: 'string', default: `${API_DIR}/${API_SOCKET_FILE}` },
  wait: { type: 'string', default: '120' },
  ...commonOptions,
} as const;

const HELP = `tcpcrypt-operator: puts the tcpcrypt sidecar into pods and hands out policy.

Usage: tcpcrypt-operator run [options]
       tcpcrypt-operator remove-agents DAEMONSET [options]
       tcpcrypt-operator self-test-server [options]
       tcpcrypt-operator self-test HOST [options]

run
  --config FILE       the configuration, which the chart writes (default ${options.config.default})
  --namespace NAME    the release's namespace (default $POD_NAMESPACE)
  --identity NAME     this replica's name (default $POD_NAME, else the host's)
  --kubeconfig FILE   how to reach the API server (default: the pod's service account)

remove-agents         deletes the node agents' DaemonSet and waits until they have ended and their nodes are clean, at most
                      for --wait; for that alone its exit status is never 1. --namespace, --kubeconfig as above

self-test-server      answers connections; self-test connects to it, from another pod, and fails if the
                      connection is not encrypted by the end of --wait (default ${options.wait.default})
  --port PORT         default ${DEFAULT_PORT}
  --api-socket PATH   where the pod's sidecar answers (default ${options['api-socket'].default})

  --log-level LEVEL   ${commonOptions['log-level'].help} (default info)
  --help, --version

Exit status: 0 success, 1 failure, 2 wrong usage.
`;

/** Throws ERR_TCPCRYPT_USAGE. */
export function parseCommand(args: readonly string[], environment: NodeJS.ProcessEnv): Invocation {
  const { values, positionals } = parse(args, options);
  if (values.help) return { kind: 'print', text: HELP };
  if (values.version) return { kind: 'version' };
  const [name, ...rest] = positionals;
  if (rest.length !== (name === 'self-test' || name === 'remove-agents' ? 1 : 0))
    throw usage(`${name} has the wrong number of arguments`);
  switch (name) {
    case 'run':
      return {
        kind: 'run',
        logLevel: oneOf('log-level', values['log-level'], logLevels),
        config: values.config,
        namespace: required('namespace', values.namespace ?? environment['POD_NAMESPACE']),
        identity: required('identity', values.identity ?? environment['POD_NAME'] ?? environment['HOSTNAME']),
        kubeconfig: values.kubeconfig,
      };
    case 'remove-agents':
      return {
        kind: name,
        daemonSet: rest[0]!,
        namespace: required('namespace', values.namespace ?? environment['POD_NAMESPACE']),
        waitMs: integer('wait', values.wait, 1, 3600) * 1000,
        kubeconfig: values.kubeconfig,
      };
    case 'self-test-server':
      return { kind: name, ...place(values) };
    case 'self-test':
      return {
        kind: name,
        host: rest[0]!,
        waitMs: integer('wait', values.wait, 1, 3600) * 1000,
        ...place(values),
      };
    default:
      throw usage(name === undefined ? 'no command' : `there is no command ${name}`);
  }
}

function place(values: { port: string; 'api-socket': string }): SelfTestPlace {
  return { port: integer('port', values.port, 1, 65_535), apiSocket: values['api-socket'] };
}
