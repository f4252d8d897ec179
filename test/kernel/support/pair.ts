/** Two hosts on one cable with tcpcrypt at both ends: what tests with real applications begin with. */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { capture } from './capture.ts';
import { type Host, Lab, requireRoot } from './namespaces.ts';
import { startTcpcrypt, type Tcpcrypt, type TcpcryptOptions } from './tcpcrypt.ts';

export interface Pair {
  readonly client: Host;
  readonly server: Host;
  readonly atClient: Tcpcrypt;
  readonly atServer: Tcpcrypt;
  /** The server's. */
  readonly address: string;
  readonly address6: string;
}

/** Runs a test's body with a pair that is gone afterwards. */
export async function withPair(
  t: TestContext,
  body: (pair: Pair) => Promise<void>,
  options: TcpcryptOptions = {},
): Promise<void> {
  if (!requireRoot(t)) return;
  using lab = new Lab();
  const client = lab.host('client');
  const server = lab.host('server');
  lab.link(client, server);
  const address = server.address4();
  const address6 = server.address6();
  // Finds the neighbours; the refusal is an answer.
  for (const each of [address, address6])
    client.run('timeout', ['3', 'bash', '-c', `: </dev/tcp/${each}/9`], { allowFailure: true });
  const both = await Promise.all([startTcpcrypt(client, options), startTcpcrypt(server, options)]);
  await using atClient = both[0];
  await using atServer = both[1];
  await body({ client, server, atClient, atServer, address, address6 });
  assert.ok(atClient.running && atServer.running, 'a rewriter died');
}

/** Does `action` and asserts that none of the needles was on the wire in clear, and that something was. */
export async function secretly<T>(
  pair: Pair,
  needles: readonly string[],
  action: () => Promise<T> | T,
  snapBytes = 0,
): Promise<T> {
  const tap = await capture(pair.server, { snapBytes });
  let result: T;
  try {
    result = await action();
  } catch (error) {
    await tap.stop();
    throw error;
  }
  const captured = await tap.stop();
  assert.ok(captured.dataPackets > 0, 'the capture holds no data at all');
  for (const needle of needles) {
    assert.ok(needle.length >= 5, `'${needle}' could stand in ciphertext by chance`);
    const found = captured.find(needle);
    assert.ok(
      !found,
      `'${needle}' was on the wire in clear: ${found?.data.toString('latin1').slice(0, 200)}`,
    );
  }
  return result;
}

/** Every connection that either end decided was encrypted, and there were some. */
export function assertAllEncrypted({ atClient, atServer }: Pair, atLeast = 1): void {
  for (const each of [atClient, atServer]) {
    assert.deepEqual(each.fallbacks(), {});
    assert.equal(each.outcomes('plain'), 0);
    assert.ok(each.outcomes('encrypted') >= atLeast, `${each.outcomes('encrypted')} of ${atLeast} encrypted`);
  }
}
