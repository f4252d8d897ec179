/**
 * The sidecar's metrics: what each is, in one table, and the registry that exports them. Base units, bounded
 * labels, never an address in a label. `docs/metrics.md` mirrors the table; a test keeps the two alike.
 */
import { Counter, Gauge, Registry } from 'prom-client';
import type { CounterReader, Labels } from './shared-counters.ts';

interface Declaration {
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly labels: readonly string[];
  readonly help: string;
  /** Upper bounds of a histogram's buckets. */
  readonly buckets?: readonly number[];
  /** Counted by the packet thread, in shared memory; else by the main thread. */
  readonly shared?: true;
}

const declare = <T extends Record<string, Declaration>>(table: T): { readonly [K in keyof T]: Declaration } =>
  table;

export const metrics = declare({
  tcpcrypt_connections_total: {
    type: 'counter',
    shared: true,
    labels: ['role', 'peer', 'outcome', 'handshake', 'authenticated'],
    help: 'Connections by what became of them: encrypted, plain, or refused by policy.',
  },
  tcpcrypt_connections: {
    type: 'gauge',
    shared: true,
    labels: ['state'],
    help: 'Connections in the table now. Plain ones leave it soon after their handshake.',
  },
  tcpcrypt_fallbacks_total: {
    type: 'counter',
    shared: true,
    labels: ['role', 'peer', 'reason'],
    help: 'Connections that are plain, or were refused for it, by reason.',
  },
  tcpcrypt_audit_violations_total: {
    type: 'counter',
    shared: true,
    labels: ['role', 'peer', 'reason'],
    help: 'Plain connections under mode Audit: Strict would have refused them.',
  },
  tcpcrypt_session_cache_lookups_total: {
    type: 'counter',
    shared: true,
    labels: ['role', 'result'],
    help: 'Look-ups of a cached session for a new connection; result is hit or miss.',
  },
  tcpcrypt_session_cache_entries: {
    type: 'gauge',
    shared: true,
    labels: [],
    help: 'Sessions in the cache now.',
  },
  tcpcrypt_shared_negative_list_entries: {
    type: 'gauge',
    shared: true,
    labels: [],
    help: 'Destinations that other pods of the namespace on this node have on their negative lists.',
  },
  tcpcrypt_handshake_duration_seconds: {
    type: 'histogram',
    shared: true,
    labels: ['role', 'handshake'],
    help: 'From the SYN to the moment that the connection is encrypted.',
    buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5],
  },
  tcpcrypt_payload_bytes_total: {
    type: 'counter',
    shared: true,
    labels: ['direction'],
    help: 'TCP payload of encrypted connections that passed, retransmissions included.',
  },
  tcpcrypt_packets_total: {
    type: 'counter',
    shared: true,
    labels: ['queue', 'verdict'],
    help: 'Packets that were read from the kernel, by queue and verdict.',
  },
  tcpcrypt_dropped_packets_total: {
    type: 'counter',
    shared: true,
    labels: ['reason'],
    help: 'Packets of encrypted or half-made connections that were dropped, by reason.',
  },
  tcpcrypt_injected_packets_total: {
    type: 'counter',
    shared: true,
    labels: ['to', 'result'],
    help: 'Packets of the rewriter itself, to the network or to its own kernel; result is sent or failed.',
  },
  tcpcrypt_packet_errors_total: {
    type: 'counter',
    shared: true,
    labels: ['queue', 'kind'],
    help: 'Packets that could not be handled because of a bug or a fault of the system.',
  },
  tcpcrypt_queue_dropped_packets_total: {
    type: 'counter',
    labels: ['queue'],
    help: 'Packets that the kernel dropped because the queue or its socket buffer was full.',
  },
  tcpcrypt_packet_latency_seconds: {
    type: 'histogram',
    shared: true,
    labels: [],
    help: 'From reading a packet to giving its verdict back; packets held during set-up are not in it.',
    buckets: [0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1],
  },
  tcpcrypt_mac_failures_total: {
    type: 'counter',
    shared: true,
    labels: [],
    help: 'Segments that were dropped because their MAC was wrong.',
  },
  tcpcrypt_rekeys_total: {
    type: 'counter',
    shared: true,
    labels: ['direction'],
    help: 'Generations of keys that were begun, by direction of the data.',
  },
  tcpcrypt_checkpoint_errors_total: {
    type: 'counter',
    shared: true,
    labels: [],
    help: 'Checkpoints that could not be written or read; the connection may not survive a restart.',
  },
  tcpcrypt_policy_info: {
    type: 'gauge',
    labels: ['generation'],
    help: '1 for the policy in force; its generation names its content.',
  },
  tcpcrypt_trust_key_info: {
    type: 'gauge',
    labels: ['key_id', 'state'],
    help: '1 for each trust-domain key that is held; state is offered or accepted.',
  },
  tcpcrypt_reloads_total: {
    type: 'counter',
    labels: ['what', 'result'],
    help: 'Policies and trust-domain keys that were read; on failure those in force stay.',
  },
  tcpcrypt_listen_errors_total: {
    type: 'counter',
    labels: ['listener'],
    help: 'Failed attempts to listen. Traffic goes on without.',
  },
  tcpcrypt_keylog_enabled: {
    type: 'gauge',
    labels: [],
    help: '1 while session secrets are written to TCPCRYPT_KEYLOGFILE.',
  },
  tcpcrypt_build_info: {
    type: 'gauge',
    labels: ['version', 'node'],
    help: '1, with the version of tcpcrypt and of Node.js.',
  },
});

export type MetricName = keyof typeof metrics;

/** Upper bounds of a histogram's buckets. */
export function bucketsOf(name: MetricName): readonly number[] {
  return metrics[name].buckets ?? [];
}

/** What is 0 before the first event, so that a rate sees that event. */
const initial: readonly (readonly [MetricName, Labels])[] = [
  ['tcpcrypt_mac_failures_total', {}],
  ['tcpcrypt_checkpoint_errors_total', {}],
  ...['in', 'out'].flatMap((direction) => [
    ['tcpcrypt_rekeys_total', { direction }] as const,
    ['tcpcrypt_payload_bytes_total', { direction }] as const,
  ]),
  ...['C', 'S'].flatMap((role) =>
    ['hit', 'miss'].map((result) => ['tcpcrypt_session_cache_lookups_total', { role, result }] as const),
  ),
];

/** Announces the series of `initial` to the reader. */
export function prepareSeries(slot: (name: MetricName, labels: Labels) => number): void {
  for (const [name, labels] of initial) slot(name, labels);
}

/** The main thread's metrics by name, to count with; the packet thread's are only read. */
export class Metrics {
  readonly registry = new Registry();
  readonly #own = new Map<MetricName, Counter | Gauge>();

  constructor(reader: CounterReader) {
    for (const [key, declaration] of Object.entries(metrics)) {
      const name = key as MetricName;
      if (declaration.type === 'histogram') {
        const histogram = sharedHistogram(name, declaration, reader);
        // prom-client asks a metric for its name and `get()` alone; its types list only its own classes.
        this.registry.registerMetric(histogram as unknown as Gauge);
      } else if (declaration.shared) {
        this.#shared(name, declaration, reader);
      } else {
        this.#own.set(name, this.#create(name, declaration));
      }
    }
  }

  add(name: MetricName, labels: Labels = {}, amount = 1): void {
    (this.#own.get(name) as Counter).inc(labels, amount);
  }

  set(name: MetricName, labels: Labels, value: number): void {
    (this.#own.get(name) as Gauge).set(labels, value);
  }

  /** Replaces all series of a gauge or of a counter whose truth is elsewhere. */
  replace(name: MetricName, series: readonly (readonly [Labels, number])[]): void {
    const metric = this.#own.get(name)!;
    metric.reset();
    for (const [labels, value] of series) metric.inc(labels, value);
  }

  async text(): Promise<string> {
    return await this.registry.metrics();
  }

  #create(name: MetricName, declaration: Declaration, collect?: (this: Counter | Gauge) => void) {
    const { type, help, labels } = declaration;
    const configuration = {
      name,
      help,
      labelNames: [...labels],
      registers: [this.registry],
      ...(collect && { collect }),
    };
    return type === 'counter' ? new Counter(configuration) : new Gauge(configuration);
  }

  #shared(name: MetricName, declaration: Declaration, reader: CounterReader): void {
    this.#create(name, declaration, function () {
      this.reset();
      if (declaration.labels.length === 0) this.inc(0);
      for (const { labels, values } of reader.read(name)) this.inc(labels, values[0]!);
    });
  }
}

/** A metric as prom-client's registry wants it, whose buckets are the packet thread's. */
function sharedHistogram(name: MetricName, { help, buckets = [] }: Declaration, reader: CounterReader) {
  const get = async () => {
    const values = reader.read(name, buckets.length + 3).flatMap(({ labels, values }) => {
      let cumulated = 0;
      const bounds = [...buckets.map(String), '+Inf'];
      return [
        ...bounds.map((le, i) => {
          cumulated += values[i]!;
          return { metricName: `${name}_bucket`, labels: { le, ...labels }, value: cumulated };
        }),
        { metricName: `${name}_sum`, labels, value: values[buckets.length + 1]! },
        { metricName: `${name}_count`, labels, value: cumulated },
      ];
    });
    return { name, help, type: 'histogram', values, aggregator: 'sum' };
  };
  return { name, get };
}
