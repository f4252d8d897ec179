/**
 * One middlebox, twice: between two plain hosts, which it must not harm and where it must be seen at work;
 * then between two hosts with tcpcrypt, where each transfer must be right byte for byte and end as its row
 * of the table says.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { capture } from './capture.ts';
import { type Middlebox, startMiddlebox } from './middlebox.ts';
import { Lab, requireRoot } from './namespaces.ts';
import { type Outcome, outcomeOf } from './outcome.ts';
import { GREETING, GREETING_PORT, makePath, type Path, PORT } from './path.ts';
import { NEEDLE } from './pattern.ts';
import type { ClientOptions, ClientResult } from './peer.ts';
import { startTcpcrypt, type Tcpcrypt } from './tcpcrypt.ts';
import { transfer } from './transfer.ts';

/** A busy machine may take so much longer. What a limit is there to find, a stall for TCP's timers, takes longer still. */
const SLACK = 2;

export interface Step {
  /** What the client's and the server's rewriter count. */
  readonly client: Outcome;
  readonly server?: Outcome;
  readonly keyExchange?: string;
  /** The transfer itself may fail here, though never with a wrong byte. */
  readonly mayFail?: boolean;
  /** Milliseconds that connection set-up may cost at most, and must cost at least. */
  readonly within?: number;
  readonly atLeast?: number;
  readonly transfer?: Partial<ClientOptions>;
}

export interface Scenario {
  readonly name: string;
  /** For `middlebox.ts`; none where `prepare` does it with the kernel's own means. */
  readonly kinds?: readonly string[];
  readonly path?: (lab: Lab) => Promise<Path>;
  readonly prepare?: (path: Path) => void;
  /** Counters that must have risen: between plain hosts, and with tcpcrypt. */
  readonly worksOnPlain?: readonly string[];
  readonly works?: readonly string[];
  readonly steps: readonly Step[];
  readonly family?: 4 | 6;
  /** The server speaks first. */
  readonly greeting?: boolean;
  readonly transfer?: Partial<ClientOptions>;
  readonly check?: (client: Tcpcrypt, server: Tcpcrypt, path: Path) => void | Promise<void>;
  /** For `tcpcrypt run`, at both ends. */
  readonly args?: readonly string[];
  readonly policy?: object;
}

export const ENCRYPTED: Step = { client: { encrypted: 1 }, server: { encrypted: 1 } };
export const CACHED: Step = { client: { encrypted: 1, cached: 1 }, server: { encrypted: 1, cached: 1 } };
export const plain = (client: string, server?: string, more: Partial<Step> = {}): Step => ({
  client: { plain: 1, fallbacks: { [client]: 1 } },
  ...(server === undefined ? {} : { server: { plain: 1, fallbacks: { [server]: 1 } } }),
  ...more,
});

export function scenarios(list: readonly Scenario[]): void {
  for (const scenario of list) {
    test(scenario.name, { timeout: 120_000 }, (t) => run(t, scenario));
  }
}

function clientOptions(scenario: Scenario, path: Path): ClientOptions {
  const host = scenario.family === 6 ? path.server.address6() : path.server.address4();
  const base = { host, up: 60_000, down: 60_000, timeoutMs: 20_000, ...scenario.transfer };
  return scenario.greeting ? { port: GREETING_PORT, greeting: GREETING, ...base } : { port: PORT, ...base };
}

async function run(t: TestContext, scenario: Scenario): Promise<void> {
  if (!requireRoot(t)) return;
  using lab = new Lab();
  const path = await (scenario.path ?? makePath)(lab);
  scenario.prepare?.(path);
  const options = clientOptions(scenario, path);
  await t.test('between plain hosts', async () => {
    const box = await middlebox(scenario, path);
    assertRight(await transfer(path.client, options));
    assertWorked(await box?.stop(), scenario.worksOnPlain ?? []);
  });
  forgetPath(path);
  await t.test('with tcpcrypt at both ends', async () => {
    const box = await middlebox(scenario, path);
    const both = await Promise.all(
      [path.client, path.server].map((host) =>
        startTcpcrypt(host, {
          args: scenario.args ?? [],
          ...(scenario.policy && { policy: scenario.policy }),
        }),
      ),
    );
    await using client = both[0];
    await using server = both[1];
    try {
      for (const [i, step] of scenario.steps.entries())
        await runStep(`connection ${i + 1}`, step, path, options, client, server);
      await scenario.check?.(client, server, path);
    } finally {
      const counters = await box?.stop();
      if (counters) t.diagnostic(`middlebox: ${JSON.stringify(counters)}`);
      assertWorked(counters, scenario.works ?? scenario.worksOnPlain ?? []);
    }
  });
}

/** What the plain transfer taught the kernels about the path's MTU. */
function forgetPath({ client, server }: Path): void {
  for (const host of [client, server]) {
    host.ip('route', 'flush', 'cache');
    host.ip('-6', 'route', 'flush', 'cache');
  }
}

async function runStep(
  name: string,
  step: Step,
  path: Path,
  options: ClientOptions,
  client: Tcpcrypt,
  server: Tcpcrypt,
): Promise<void> {
  const tap = step.client.encrypted ? await capture(path.server, { snapBytes: 300 }) : undefined;
  const [result, atClient, atServer] = await outcomeOf([client, server], () =>
    transfer(path.client, { ...options, ...step.transfer }),
  );
  const captured = await tap?.stop();
  const seen = `${name}: client ${JSON.stringify(atClient)}, server ${JSON.stringify(atServer)}, ${JSON.stringify(result.connections[0])}`;
  if (!step.mayFail) assertRight(result, seen);
  else assert.doesNotMatch(result.connections[0].error ?? '', /wrong byte/, seen);
  // Whether the handshake was cached is compared only where a step names it.
  const shown = (outcome: Outcome, like: Outcome): Outcome =>
    like.cached === undefined ? { ...outcome, cached: 0 } : outcome;
  assert.deepEqual(shown(atClient, step.client), shown(step.client, step.client), seen);
  if (step.server) assert.deepEqual(shown(atServer, step.server), shown(step.server, step.server), seen);
  if (captured) {
    assert.ok(captured.dataPackets > 0, 'the capture holds no data at all');
    assert.equal(captured.find(NEEDLE), undefined, `${seen}, and yet data was on the wire in clear`);
  }
  if (step.keyExchange) {
    const found = client.connections().find((each) => each.local === result.connections[0].local);
    assert.equal(found?.keyExchange, step.keyExchange, seen);
  }
  const { elapsedMs } = result.connections[0];
  if (step.within) assert.ok(elapsedMs < SLACK * step.within, seen);
  if (step.atLeast) assert.ok(elapsedMs > step.atLeast, seen);
}

async function middlebox(scenario: Scenario, path: Path): Promise<Middlebox | undefined> {
  return scenario.kinds && (await startMiddlebox(path.router, scenario.kinds));
}

function assertRight(result: ClientResult, seen = ''): void {
  assert.ok(result.ok, `${seen} ${result.connections.find((each) => !each.ok)?.error}`);
}

function assertWorked(counters: Record<string, number> | undefined, names: readonly string[]): void {
  for (const name of names)
    assert.ok(
      (counters?.[name] ?? 0) > 0,
      `the middlebox never counted '${name}': ${JSON.stringify(counters)}`,
    );
}
