/** The operator's metrics: declared once, with help and labels; `docs/metrics.md` mirrors the table. */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';

interface Declaration {
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly labels: readonly string[];
  readonly help: string;
}

function declare<K extends string>(table: Record<K, Declaration>): Readonly<Record<K, Declaration>> {
  return table;
}

export const metrics = declare({
  tcpcrypt_operator_injections_total: {
    type: 'counter',
    labels: ['result', 'reason'],
    help: 'Pods that were made, by what the webhook did: injected, left_alone, excluded, invalid.',
  },
  tcpcrypt_operator_admission_duration_seconds: {
    type: 'histogram',
    labels: ['path'],
    help: 'How long the webhook took for an answer.',
  },
  tcpcrypt_operator_pods: {
    type: 'gauge',
    labels: ['namespace', 'state'],
    help: 'Pods that have not ended: injected, left_alone, excluded, or missing (should be injected and are not). Leader only.',
  },
  tcpcrypt_operator_pods_left_alone: {
    type: 'gauge',
    labels: ['reason'],
    help: 'Pods that cannot be injected, by reason. Leader only.',
  },
  tcpcrypt_operator_suspended_namespaces: {
    type: 'gauge',
    labels: [],
    help: 'Namespaces where injection has stopped by itself because the API server refused our container.',
  },
  tcpcrypt_operator_suspensions_total: {
    type: 'counter',
    labels: [],
    help: 'How often injection has stopped by itself in a namespace.',
  },
  tcpcrypt_operator_events_total: {
    type: 'counter',
    labels: ['reason', 'result'],
    help: 'Kubernetes events that were to be written; result is written, known, failed or dropped.',
  },
  tcpcrypt_operator_reconciles_total: {
    type: 'counter',
    labels: ['controller', 'result'],
    help: 'Times that a controller compared what is with what should be; result is unchanged, changed or error.',
  },
  tcpcrypt_operator_queue_depth: {
    type: 'gauge',
    labels: ['queue'],
    help: 'What waits to be done: namespaces whose policy is to be rendered, events to be written.',
  },
  tcpcrypt_operator_leader: { type: 'gauge', labels: [], help: '1 on the replica that leads.' },
  tcpcrypt_operator_certificate_expiry_timestamp_seconds: {
    type: 'gauge',
    labels: [],
    help: "When the certificate that the webhook shows ends, in Unix's seconds.",
  },
  tcpcrypt_operator_build_info: {
    type: 'gauge',
    labels: ['version', 'node'],
    help: '1, with the version of tcpcrypt and of Node.js.',
  },
});

export type MetricName = keyof typeof metrics;
type Labels = Readonly<Record<string, string>>;

/** The API server waits 2 s. */
const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2];

export class Metrics {
  readonly #registry = new Registry();
  readonly #byName = new Map<MetricName, Counter | Gauge | Histogram>();
  readonly #collectors = new Set<() => void>();

  constructor() {
    for (const [key, { type, labels, help }] of Object.entries<Declaration>(metrics)) {
      const common = { name: key, help, labelNames: [...labels], registers: [this.#registry] };
      const metric =
        type === 'counter'
          ? new Counter(common)
          : type === 'gauge'
            ? new Gauge(common)
            : new Histogram({ ...common, buckets: SECONDS });
      this.#byName.set(key as MetricName, metric);
    }
  }

  count(name: MetricName, labels: Labels = {}): void {
    (this.#byName.get(name) as Counter).inc(labels);
  }

  observe(name: MetricName, labels: Labels, value: number): void {
    (this.#byName.get(name) as Histogram).observe(labels, value);
  }

  set(name: MetricName, value: number, labels: Labels = {}): void {
    (this.#byName.get(name) as Gauge).set(labels, value);
  }

  /** All series of a gauge at once. */
  replace(name: MetricName, series: readonly (readonly [Labels, number])[]): void {
    const gauge = this.#byName.get(name) as Gauge;
    gauge.reset();
    for (const [labels, value] of series) gauge.set(labels, value);
  }

  /** `collect` is called before each scrape, as long as `until` has not come. */
  beforeScrape(collect: () => void, until?: AbortSignal): void {
    this.#collectors.add(collect);
    until?.addEventListener('abort', () => this.#collectors.delete(collect));
  }

  async text(): Promise<string> {
    for (const collect of this.#collectors) collect();
    return await this.#registry.metrics();
  }
}
