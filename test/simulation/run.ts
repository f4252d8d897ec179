/** Runs a seed to its end, and adds up what many runs saw. */

import type { MachineFactory } from './machine.ts';
import { drawScenario, type Scenario } from './scenario.ts';
import { silent, type Trace } from './trace.ts';
import { type RunResult, World } from './world.ts';

export type Amend = (scenario: Scenario) => Scenario;

/** `amend` changes the drawn scenario, for tests of the harness. */
export function runSeed(
  seed: number,
  factory: MachineFactory,
  trace: Trace = silent,
  amend?: Amend,
): RunResult {
  const drawn = drawScenario(seed);
  const scenario = amend === undefined ? drawn : amend(drawn);
  const world = new World(scenario, factory, trace);
  try {
    return world.run();
  } catch (error) {
    const detail = error instanceof Error ? (error.stack ?? error.message) : String(error);
    world.monitor.fail('nothing throws', detail);
    const { violations } = world.monitor;
    const { events, now } = world.clock;
    const { connections, superSegments } = world;
    return { scenario, violations, connections, events, endedAtMs: now, superSegments };
  }
}

/** No rewriter at either host: the model TCP alone. */
export const withoutRewriters: Amend = (scenario) => ({
  ...scenario,
  hosts: { a: { ...scenario.hosts.a, rewriter: false }, b: { ...scenario.hosts.b, rewriter: false } },
});

export function replayCommand(seed: number): string {
  return `npm run simulate -- --seeds 1 --from ${seed} --verbose`;
}

export interface Tally {
  add(result: RunResult): void;
  readonly counts: Map<string, number>;
}

export function tally(): Tally {
  const counts = new Map<string, number>();
  const count = (name: string, by = 1): void => void counts.set(name, (counts.get(name) ?? 0) + by);
  return {
    counts,
    add(result) {
      count('seeds');
      count('events', result.events);
      count('super-segments in', result.superSegments.in);
      count('super-segments out', result.superSegments.out);
      for (const connection of result.connections) {
        if (connection.openedAt === undefined) continue;
        count('connections');
        count(connection.mode);
        if (connection.ends.a?.info?.handshake === 'cached') count('cached');
        if (connection.complete) count('complete');
      }
      for (const { property } of result.violations) count(`violated: ${property}`);
    },
  };
}

export function summary(tallied: Tally): string {
  return [...tallied.counts].map(([name, value]) => `${name} ${value}`).join(', ');
}
