/** What a rewriter counted between two moments: how connections ended up, and why. */
import { setTimeout as sleep } from 'node:timers/promises';
import { total } from './metrics.ts';
import type { Tcpcrypt } from './tcpcrypt.ts';

/** Only what is not zero. */
export interface Outcome {
  encrypted?: number;
  plain?: number;
  refused?: number;
  /** Of the encrypted ones. */
  cached?: number;
  fallbacks?: Record<string, number>;
}

/** A rewriter, as far as it is looked at. */
type Counting = Pick<Tcpcrypt, 'metrics'>;

function snapshot(tcpcrypt: Counting): Record<string, number> {
  const samples = tcpcrypt.metrics();
  const values: Record<string, number> = {
    cached: total(samples, 'tcpcrypt_connections_total', { handshake: 'cached' }),
  };
  for (const outcome of ['encrypted', 'plain', 'refused'])
    values[outcome] = total(samples, 'tcpcrypt_connections_total', { outcome });
  for (const { name, labels } of samples) {
    if (name !== 'tcpcrypt_fallbacks_total') continue;
    values[`because ${labels['reason']}`] = total(samples, name, { reason: labels['reason'] });
  }
  return values;
}

/**
 * Runs `action` and says what the rewriter counted meanwhile; `connections` of them must have been decided,
 * for which it waits a little: a server may learn after its client that a connection is over.
 */
export async function outcomeOf<T>(
  tcpcrypts: readonly Counting[],
  action: () => Promise<T>,
  connections = 1,
): Promise<[T, ...Outcome[]]> {
  const before = tcpcrypts.map(snapshot);
  const result = await action();
  const outcomes = [];
  for (const [i, tcpcrypt] of tcpcrypts.entries()) {
    let outcome: Outcome = {};
    for (let tries = 0; tries < 20; tries++) {
      outcome = difference(before[i], snapshot(tcpcrypt));
      if ((outcome.encrypted ?? 0) + (outcome.plain ?? 0) + (outcome.refused ?? 0) >= connections) break;
      await sleep(100);
    }
    outcomes.push(outcome);
  }
  return [result, ...outcomes];
}

function difference(before: Record<string, number>, after: Record<string, number>): Outcome {
  const outcome: Outcome = {};
  for (const [key, value] of Object.entries(after)) {
    const more = value - (before[key] ?? 0);
    if (more === 0) continue;
    if (key.startsWith('because '))
      outcome.fallbacks = { ...outcome.fallbacks, [key.slice('because '.length)]: more };
    else outcome[key as 'encrypted'] = more;
  }
  return outcome;
}
