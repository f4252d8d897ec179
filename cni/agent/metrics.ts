/** The agent's metrics: declared once, with help and labels; `docs/metrics.md` mirrors the table. */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import { type Increase, totals } from './totals.ts';

interface Declaration {
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly labels: readonly string[];
  readonly help: string;
}

const declare = <K extends string>(table: Record<K, Declaration>): Readonly<Record<K, Declaration>> => table;

export const metrics = declare({
  tcpcrypt_agent_cni_requests_total: {
    type: 'counter',
    labels: ['command', 'result'],
    help: 'Calls of the CNI plugin; result is success or error.',
  },
  tcpcrypt_agent_cni_request_duration_seconds: {
    type: 'histogram',
    labels: ['command'],
    help: 'How long a call of the CNI plugin took. The plugin waits 2 s.',
  },
  tcpcrypt_agent_pods_left_alone_total: {
    type: 'counter',
    labels: ['reason'],
    help: 'Injected pods that got no rules: unsupported, other_mesh, arguments, failed.',
  },
  tcpcrypt_agent_rules_mended_total: {
    type: 'counter',
    labels: ['result'],
    help: 'Namespaces of pods whose rules were missing or differed; result is success or error.',
  },
  tcpcrypt_agent_pods: {
    type: 'gauge',
    labels: ['state'],
    help: 'Injected pods of this node: programmed (rules and policy), pending, unreachable (no answer from the sidecar).',
  },
  tcpcrypt_agent_policy_pushes_total: {
    type: 'counter',
    labels: ['result'],
    help: 'Policies that were handed to sidecars; result is success, refused or error.',
  },
  tcpcrypt_agent_chained: {
    type: 'gauge',
    labels: [],
    help: '1 if the runtime calls our plugin: its entry is in the network configuration, and the executable is there.',
  },
  tcpcrypt_agent_entry_losses_total: {
    type: 'counter',
    labels: [],
    help: 'How often our entry was thrown out of a network configuration.',
  },
  tcpcrypt_agent_node_supported: {
    type: 'gauge',
    labels: [],
    help: '1 if the kernel of this node takes the rules.',
  },
  tcpcrypt_agent_build_info: {
    type: 'gauge',
    labels: ['version', 'node'],
    help: '1, with the version of tcpcrypt and of Node.js.',
  },
  ...(Object.fromEntries(
    Object.entries(totals).map(([name, { labels, help }]) => [
      name,
      { type: 'counter', labels: ['namespace', ...Object.keys(labels)], help },
    ]),
  ) as unknown as Record<keyof typeof totals, Declaration>),
});

export type MetricName = keyof typeof metrics;
type Labels = Readonly<Record<string, string>>;

const SECONDS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5];

export class Metrics {
  readonly #registry = new Registry();
  readonly #byName = new Map<MetricName, Counter | Gauge | Histogram>();

  constructor() {
    for (const [name, { type, labels, help }] of Object.entries<Declaration>(metrics)) {
      const common = { name, help, labelNames: [...labels], registers: [this.#registry] };
      const histogram = (): Histogram => new Histogram({ ...common, buckets: SECONDS });
      const metric =
        type === 'counter' ? new Counter(common) : type === 'gauge' ? new Gauge(common) : histogram();
      this.#byName.set(name as MetricName, metric);
    }
  }

  count(name: MetricName, labels: Labels = {}, amount = 1): void {
    (this.#byName.get(name) as Counter).inc(labels, amount);
  }

  observe(name: MetricName, labels: Labels, value: number): void {
    (this.#byName.get(name) as Histogram).observe(labels, value);
  }

  set(name: MetricName, value: number, labels: Labels = {}): void {
    (this.#byName.get(name) as Gauge).set(labels, value);
  }

  /** What a sidecar of the namespace has counted since it was last asked. */
  add(namespace: string, increases: readonly Increase[]): void {
    for (const { counter, values, amount } of increases) {
      const names = Object.keys(totals[counter].labels);
      const labels = Object.fromEntries(names.map((name, i) => [name, values[i] ?? '']));
      this.count(counter, { namespace, ...labels }, amount);
    }
  }

  async text(): Promise<string> {
    return await this.#registry.metrics();
  }
}
