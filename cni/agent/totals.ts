/**
 * Sums by namespace of what the sidecars count, as counters that never fall: a sidecar that starts again counts from
 * nothing, and one that is gone takes nothing away. A pod may lie about itself: it can add to its own namespace's
 * numbers, under labels of a closed list, and no more.
 */

/** One series of a sidecar: a counter of the table below. */
export interface Increase {
  readonly counter: TotalName;
  /** In the order of the counter's labels, without the namespace. */
  readonly values: readonly string[];
  readonly amount: number;
}

const PEERS = ['known', 'cluster', 'node', 'external'];
/** interfaces.md, Metrics. */
const REASONS = [
  ...['peer_unsupported', 'options_stripped', 'declined', 'syn_timeout', 'init_timeout', 'no_option_space'],
  ...[
    'no_common_algorithm',
    'policy',
    'incompatible_option',
    'simultaneous_open',
    'path_check',
    'negative_list',
  ],
  ...['resource_limit', 'malformed', 'other_mesh', 'bypassed'],
];

/** What is summed: the sidecar's counter, and the labels that stay with the values that they may have. */
export const totals = {
  tcpcrypt_namespace_connections_total: {
    of: 'tcpcrypt_connections_total',
    labels: { peer: PEERS, outcome: ['encrypted', 'plain', 'refused'] },
    help: 'Connections of the pods of a namespace on this node, by what became of them.',
  },
  tcpcrypt_namespace_fallbacks_total: {
    of: 'tcpcrypt_fallbacks_total',
    labels: { peer: PEERS, reason: REASONS },
    help: 'Connections of the pods of a namespace on this node that are plain, or were refused for it, by reason.',
  },
  tcpcrypt_namespace_session_cache_lookups_total: {
    of: 'tcpcrypt_session_cache_lookups_total',
    labels: { result: ['hit', 'miss'] },
    help: 'Look-ups of cached sessions by the pods of a namespace on this node.',
  },
} as const satisfies Record<string, { of: string; labels: Record<string, readonly string[]>; help: string }>;

export type TotalName = keyof typeof totals;

/** For a label's value that is on no list: a newer sidecar's, or nonsense. */
const OTHER = 'other';
/** More counts than a pod makes in an age. */
const MAX_VALUE = 2 ** 53;
const MAX_LINE = 500;

/** What a sidecar counted when it was last asked, by series. */
export type Reading = ReadonlyMap<string, number>;

/** Reads the counters that are summed out of the Prometheus text format; other lines are passed over. */
export function readCounters(text: string): Reading {
  const found = new Map<string, number>();
  for (const line of text.split('\n')) {
    if (line.startsWith('#') || line.length > MAX_LINE) continue;
    const match = /^([a-z_]+)\{([^}]*)\} (\d+(?:\.\d+)?(?:e\+?\d+)?)$/.exec(line);
    if (match === null) continue;
    const [, name = '', labelText = '', valueText] = match;
    const value = Number(valueText);
    const labels = new Map([...labelText.matchAll(/([a-z_]+)="([^"\\]*)"/g)].map(([, key, v]) => [key!, v!]));
    for (const [total, { of, labels: kept }] of Object.entries(totals)) {
      if (of !== name || !(value <= MAX_VALUE)) continue;
      const values = Object.entries<readonly string[]>(kept).map(([key, known]) => {
        const value = labels.get(key) ?? '';
        return known.includes(value) ? value : OTHER;
      });
      const series = [total, ...values].join(' ');
      found.set(series, (found.get(series) ?? 0) + value);
    }
  }
  return found;
}

/** What was added from one reading to the next. A value that fell has begun anew. */
export function increases(before: Reading, now: Reading): Increase[] {
  const found: Increase[] = [];
  for (const [series, value] of now) {
    const last = before.get(series) ?? 0;
    const amount = value >= last ? value - last : value;
    const [counter, ...values] = series.split(' ');
    if (amount > 0) found.push({ counter: counter as TotalName, values, amount });
  }
  return found;
}

/** The generation of policy that a sidecar says is in force. */
export function policyGeneration(text: string): string | undefined {
  return /^tcpcrypt_policy_info\{generation="([^"\\]{1,64})"\} 1$/m.exec(text)?.[1];
}
