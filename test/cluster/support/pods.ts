/** Pods for tests: their manifests, waiting for them, and running things in them. */
import type { NodeName } from '../addresses.ts';
import type { Cluster } from '../cluster.ts';
import { TOOLS_IMAGE } from '../images.ts';
import type { RunOptions, RunResult } from '../machine.ts';

/** As far as tests look into one. */
export interface Pod {
  readonly metadata: { readonly name: string; readonly namespace: string; readonly uid: string };
  readonly spec: {
    readonly nodeName: NodeName;
    readonly initContainers?: readonly { readonly name: string }[];
  };
  readonly status: {
    readonly qosClass: string;
    readonly podIPs: readonly { readonly ip: string }[];
    readonly containerStatuses?: readonly { readonly restartCount: number }[];
    readonly initContainerStatuses?: readonly { readonly restartCount: number }[];
  };
}

export interface PodOptions {
  readonly name: string;
  readonly node: NodeName;
  readonly command?: readonly string[];
  readonly labels?: Readonly<Record<string, string>>;
  /** More of the pod's spec. */
  readonly spec?: object;
  /** More of its container. */
  readonly container?: object;
}

const IDLE = ['sleep', 'infinity'];
/** nginx that answers with the pod's name on port 80, both families, and logs its clients' addresses. */
export const WEB_SERVER = [
  'sh',
  '-c',
  'hostname >/var/www/html/index.html; ln -sf /dev/stdout /var/log/nginx/access.log; exec nginx -g "daemon off;"',
];

/** A pod of the tools image on one node; it ends at once when it is deleted. */
export function pod({
  name,
  node,
  command = IDLE,
  labels = {},
  spec = {},
  container = {},
}: PodOptions): object {
  const probe = command === WEB_SERVER ? { readinessProbe: { httpGet: { port: 80 }, periodSeconds: 1 } } : {};
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, labels: { app: name, ...labels } },
    spec: {
      nodeName: node,
      terminationGracePeriodSeconds: 0,
      containers: [
        { name: 'main', image: TOOLS_IMAGE, imagePullPolicy: 'Never', command, ...probe, ...container },
      ],
      ...spec,
    },
  };
}

/** A namespace for one test file, removed at its end with what is in it. */
export class TestNamespace {
  readonly cluster: Cluster;
  readonly name: string;

  constructor(cluster: Cluster, name: string, labels: Readonly<Record<string, string>> = {}) {
    this.cluster = cluster;
    this.name = name;
    cluster.apply([{ apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } }]);
  }

  /** Applies objects; those that are pods are ready when it returns. */
  async start(objects: readonly object[], timeoutSeconds = 120): Promise<void> {
    const input = objects.map((object) => JSON.stringify(object)).join('\n---\n');
    this.kubectl(['apply', '-f', '-'], { input });
    const pods = objects.filter((object) => 'kind' in object && object.kind === 'Pod') as Pod[];
    if (pods.length > 0)
      this.ready(
        pods.map(({ metadata }) => `pod/${metadata.name}`),
        timeoutSeconds,
      );
  }

  /** Waits; when it takes too long, what it throws says what the pods' events and logs say. */
  ready(what: readonly string[], timeoutSeconds = 120): void {
    const args = ['wait', '--for=condition=Ready', `--timeout=${timeoutSeconds}s`, ...what];
    const options = { allowFailure: true, timeoutMs: 1000 * (timeoutSeconds + 30) };
    const { status, stderr } = this.kubectl(args, options);
    if (status === 0) return;
    const events = this.kubectl(['get', 'events', '--sort-by=.lastTimestamp'], { allowFailure: true }).stdout;
    const logs = what.map(
      (each) => this.kubectl(['logs', each, '--all-containers', '--tail=20'], { allowFailure: true }).stdout,
    );
    throw new Error([stderr, events.split('\n').slice(-30).join('\n'), ...logs].join('\n'));
  }

  /** Waits until a Deployment's pods are what it says, and ready. */
  rolledOut(deployment: string, timeoutSeconds = 180): void {
    const args = ['rollout', 'status', `--timeout=${timeoutSeconds}s`, `deployment/${deployment}`];
    this.kubectl(args, { timeoutMs: 1000 * (timeoutSeconds + 30) });
  }

  /** Waits for a Job's end; throws, with what it said, when it failed. */
  completed(job: string, timeoutSeconds = 120): void {
    const args = ['wait', '--for=condition=Complete', `--timeout=${timeoutSeconds}s`, `job/${job}`];
    const { status, stderr } = this.kubectl(args, {
      allowFailure: true,
      timeoutMs: 1000 * (timeoutSeconds + 30),
    });
    if (status === 0) return;
    const { stdout } = this.kubectl(['describe', 'pods', '-l', `job-name=${job}`], { allowFailure: true });
    throw new Error(`${stderr}${stdout}`);
  }

  kubectl(args: readonly string[], options: RunOptions = {}): RunResult {
    return this.cluster.kubectl(['--namespace', this.name, ...args], options);
  }

  pod(name: string): Pod {
    return this.cluster.get<Pod>('--namespace', this.name, 'pod', name);
  }

  /** Of a Deployment's pods. */
  podNames(deployment: string): string[] {
    const found = this.cluster.get<{ items: Pod[] }>('-n', this.name, 'pods', '-l', `app=${deployment}`);
    return found.items.map(({ metadata }) => metadata.name);
  }

  /** The namespace's events of a reason. */
  events(reason: string): { readonly message: string; readonly involvedObject: { readonly name: string } }[] {
    const args = ['-n', this.name, 'events', '--field-selector', `reason=${reason}`];
    return this.cluster.get<{ items: [] }>(...args).items;
  }

  /** The pod's address of a family, as a URL has it: IPv6 in brackets. */
  address(name: string, family: 4 | 6): string {
    const found = this.pod(name).status.podIPs.find(({ ip }) => ip.includes(':') === (family === 6));
    if (!found) throw new Error(`pod ${name} has no IPv${family} address`);
    return family === 6 ? `[${found.ip}]` : found.ip;
  }

  /** Runs a command in a pod; `name` may say the container: `pod/container`. */
  exec(name: string, command: readonly string[], options: RunOptions = {}): RunResult {
    const [podName, container = 'main'] = name.split('/');
    const stdin = options.input === undefined ? [] : ['--stdin'];
    return this.kubectl(['exec', ...stdin, podName, '--container', container, '--', ...command], options);
  }

  /** What curl in a pod gets from a URL; throws when it fails. */
  fetch(from: string, url: string): string {
    return this.exec(from, [
      'curl',
      '--silent',
      '--show-error',
      '--fail',
      '--max-time',
      '20',
      url,
    ]).stdout.trim();
  }

  remove(): void {
    this.cluster.kubectl(['delete', 'namespace', this.name, '--wait=false']);
  }
}
