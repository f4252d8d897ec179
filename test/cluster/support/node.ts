/** What the product leaves on a node, and its agent there. */
import { parseMetrics, total } from '../../kernel/support/metrics.ts';
import type { NodeName } from '../addresses.ts';
import type { Cluster } from '../cluster.ts';
import type { Machine } from '../machine.ts';
import { RELEASE_NAMESPACE } from './chart.ts';
import { type Process, podProcesses, signal } from './processes.ts';

export const CONFLIST = '/etc/cni/net.d/10-bridge.conflist';

interface NodeObject {
  readonly metadata: { readonly labels: Readonly<Record<string, string>> };
  readonly status: { readonly conditions: readonly Condition[] };
}

export interface Condition {
  readonly type: string;
  readonly status: string;
  readonly reason: string;
  readonly message: string;
}

/** The condition that the agent sets. */
export function condition(cluster: Cluster, node: NodeName): Condition | undefined {
  return cluster.get<NodeObject>('node', node).status.conditions.find(({ type }) => type === 'TcpcryptReady');
}

/** The product's files on a node, and the configurations that name it. */
export function filesOn(cluster: Cluster, node: NodeName): string[] {
  const files = '/opt/cni/bin/*tcpcrypt* /etc/cni/net.d/.tcpcrypt* /run/tcpcrypt-node/*';
  const script = `grep -ls tcpcrypt /etc/cni/net.d/*; ls -d ${files} 2>/dev/null || true`;
  return cluster.nodes[node]
    .run('sh', ['-c', script])
    .stdout.split('\n')
    .filter((line) => line !== '');
}

/** What there is of the product on a node and in its object: none where it is clean. */
export function traces(cluster: Cluster, node: NodeName): string[] {
  const { labels } = cluster.get<NodeObject>('node', node).metadata;
  return [
    ...filesOn(cluster, node),
    ...Object.keys(labels).filter((name) => name.startsWith('tcpcrypt.io/')),
    ...(condition(cluster, node) ? ['the condition'] : []),
  ].map((trace) => `${node}: ${trace}`);
}

/** The types of the plugins in a configuration list, in their order. */
export function pluginsIn(cluster: Cluster, node: NodeName, file = CONFLIST): string[] {
  const { plugins } = JSON.parse(cluster.nodes[node].run('cat', [file]).stdout);
  return plugins.map(({ type }: { type: string }) => type);
}

interface AgentPod {
  readonly metadata: { readonly name: string; readonly uid: string; readonly deletionTimestamp?: string };
  readonly spec: { readonly containers: readonly { readonly image: string }[] };
}

/** The agent that runs on a node, as it is when this is made. */
export class Agent {
  readonly name: string;
  readonly image: string;
  readonly #uid: string;
  readonly #cluster: Cluster;
  readonly #node: NodeName;

  constructor(cluster: Cluster, node: NodeName) {
    const { items } = cluster.get<{ items: AgentPod[] }>(
      ...['-n', RELEASE_NAMESPACE, 'pods', '-l', 'app.kubernetes.io/component=node-agent'],
      ...['--field-selector', `spec.nodeName=${node}`],
    );
    const found = items.find(({ metadata }) => metadata.deletionTimestamp === undefined);
    if (!found) throw new Error(`${node} has no agent`);
    this.name = found.metadata.name;
    this.image = found.spec.containers[0]!.image;
    this.#uid = found.metadata.uid;
    this.#cluster = cluster;
    this.#node = node;
  }

  /** Its id, as the node knows it. */
  process(): number {
    return this.#process().pid;
  }

  signal(name: 'KILL' | 'STOP' | 'CONT'): void {
    signal(this.#machine, this.#process(), name);
  }

  /** proc(5): S sleeps, T is stopped. */
  state(): string {
    const { stdout } = this.#machine.run('cat', [`/proc/${this.process()}/stat`]);
    return stdout.replace(/^.*\) /s, '')[0] ?? '';
  }

  isReady(): boolean {
    return this.#ask('readyz') === 'ok\n';
  }

  metric(name: string, labels: Readonly<Record<string, string>> = {}): number {
    return total(parseMetrics(this.#ask('metrics')), name, labels);
  }

  /** How many pods of its node have their rules and their policy; none while it does not answer. */
  programmedPods(): number {
    return this.metric('tcpcrypt_agent_pods', { state: 'programmed' });
  }

  #ask(what: string): string {
    const command = ['-sf', '--max-time', '5', `http://127.0.0.1:19091/${what}`];
    return this.#machine.runInNetwork('curl', command, { allowFailure: true }).stdout;
  }

  get #machine(): Machine {
    return this.#cluster.nodes[this.#node];
  }

  /** The eldest: not what holds the namespaces, nor what it runs. */
  #process(): Process {
    const all = podProcesses(this.#machine, this.#uid);
    const found = all.find(({ commandLine }) => commandLine.includes('tcpcrypt-node-agent'));
    if (!found) throw new Error(`the agent of ${this.#node} does not run`);
    return found;
  }
}
