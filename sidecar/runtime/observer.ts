/** Turns what the rewriter reports into counters, log lines and the key log. Runs in the packet thread. */
import type { ConnectionInfo, Observer } from '../rewriter/types.ts';
import type { KeyLog } from './keylog.ts';
import type { LogLevelName } from './messages.ts';
import { bucketsOf, type MetricName } from './metrics.ts';
import type { Classify } from './peers.ts';
import type { Counters, Labels, SharedHistogram } from './shared-counters.ts';

export type SendLog = (level: LogLevelName, message: string, fields: Record<string, unknown>) => void;

export interface ObserverOptions {
  readonly counters: Counters;
  readonly classify: Classify;
  readonly log: SendLog;
  /** Each connection's outcome is logged, not only refusals. */
  readonly verbose: boolean;
  readonly keyLog?: KeyLog | undefined;
}

export function createObserver({ counters, classify, log, verbose, keyLog }: ObserverOptions): Observer {
  const count = (name: MetricName, labels: Labels = {}): void => counters.add(counters.slot(name, labels));
  const durations = new Map<string, SharedHistogram>();
  const duration = (role: string, handshake: string): SharedHistogram => {
    const key = `${role} ${handshake}`;
    const name = 'tcpcrypt_handshake_duration_seconds';
    const made = durations.get(key) ?? counters.histogram(name, bucketsOf(name), { role, handshake });
    durations.set(key, made);
    return made;
  };
  const macFailures = counters.slot('tcpcrypt_mac_failures_total');

  return {
    decided({ connection, outcome, handshake, durationMs, peerKnown, wouldRefuse }) {
      const { role, reason } = connection;
      const peer = classify(connection.remote, peerKnown);
      const authenticated = String(connection.authenticated);
      count('tcpcrypt_connections_total', { role, peer, outcome, handshake, authenticated });
      if (outcome === 'encrypted') duration(role, handshake).observe(durationMs / 1000);
      else if (reason !== undefined) count('tcpcrypt_fallbacks_total', { role, peer, reason });
      if (wouldRefuse) {
        count('tcpcrypt_audit_violations_total', { role, peer, reason: reason ?? 'policy' });
        log('warn', 'connection would be refused in mode Strict', fieldsOf(connection));
      } else if (outcome === 'refused') {
        log('warn', 'connection refused by policy', fieldsOf(connection));
      } else if (verbose) {
        log('debug', `connection is ${outcome}`, fieldsOf(connection));
      }
    },
    cacheLookup: (role, hit) =>
      count('tcpcrypt_session_cache_lookups_total', { role, result: hit ? 'hit' : 'miss' }),
    rekeyed: (direction) => count('tcpcrypt_rekeys_total', { direction }),
    macFailure: () => counters.add(macFailures),
    dropped: (reason) => count('tcpcrypt_dropped_packets_total', { reason }),
    ...(keyLog && {
      secret: (sessionId: Uint8Array, secret: Uint8Array, opener: string, listener: string) =>
        keyLog.write(sessionId, secret, opener, listener),
    }),
  };
}

function fieldsOf({ local, remote, active, reason, suite, keyExchange }: ConnectionInfo) {
  return {
    local,
    remote,
    active,
    ...(reason && { reason }),
    ...(suite && { suite, keyExchange }),
  };
}

const WINDOW_MS = 10_000;
const LINES_PER_WINDOW = 10;

/**
 * Lets through ten lines of each message in ten seconds, so that a flood of connections is no flood of lines; the
 * next line that passes says how many did not.
 */
export function limitLog(send: SendLog, now: () => number): SendLog {
  const windows = new Map<string, { until: number; lines: number; suppressed: number }>();
  return (level, message, fields) => {
    const time = now();
    let window = windows.get(message);
    if (window === undefined || time >= window.until) {
      const suppressed = window?.suppressed ?? 0;
      window = { until: time + WINDOW_MS, lines: 0, suppressed: 0 };
      windows.set(message, window);
      if (suppressed > 0) fields = { ...fields, suppressed };
    }
    if (window.lines++ < LINES_PER_WINDOW) send(level, message, fields);
    else window.suppressed++;
  };
}
