/**
 * tcpcrypt itself, as it is started on a bare host, by policy: as it comes, each suite, each key exchange, and with a
 * peer that does not have it. What a row claims is checked: the algorithms of a live connection at its start, and at
 * its end how many connections were encrypted, and how many resumed.
 */
import { join } from 'node:path';
import { KEY_EXCHANGES, SUITES } from '../../policy/algorithms.ts';
import { total } from '../../test/kernel/support/metrics.ts';
import type { Host } from '../../test/kernel/support/namespaces.ts';
import { ended, eventually } from '../../test/kernel/support/processes.ts';
import { startTcpcrypt, type Tcpcrypt } from '../../test/kernel/support/tcpcrypt.ts';
import { type Bed, BIN, PORTS } from '../bed.ts';
import { type Counters, type Row, type Running, type Sessions, Unavailable } from '../contender.ts';
import { MEASURES, type Measure } from '../figures.ts';

interface Algorithms {
  readonly suites?: readonly string[];
  readonly keyExchanges?: readonly string[];
}

/** `where` it runs: both ends, or the client alone. */
interface Variant extends Algorithms {
  readonly where?: 'client';
}

/** Its keys are made ahead, one at a time, and a connection that finds none goes on without encryption. */
const RSA = 'RSA-OAEP';

/** As it is in the image. */
const BUNDLE = join(BIN, 'tcpcrypt/tcpcrypt.mjs');

/** For --profile, which names source files: options of Node.js for the processes at both ends. */
export const nodeOptions: { value?: string } = {};

async function startEnd(bed: Bed, host: Host, policy: object): Promise<Tcpcrypt> {
  const env: Record<string, string> =
    nodeOptions.value === undefined ? { TCPCRYPT_PROGRAM: BUNDLE } : { NODE_OPTIONS: nodeOptions.value };
  const tcpcrypt = await startTcpcrypt(host, { policy, env });
  bed.cgroup.add(tcpcrypt.pid);
  return tcpcrypt;
}

/** Opens a connection and says what it was encrypted with; undefined if it was not. */
async function probe(bed: Bed, atClient: Tcpcrypt) {
  const port = String(PORTS.echo);
  const held = await bed.tool(bed.client, 'load', ['hold', bed.server.address4(), port, '1'], 'holding');
  try {
    return await eventually(
      () => atClient.connections().find((each) => each.state === 'encrypted'),
      'an encrypted connection',
      3000,
    ).catch(() => undefined);
  } finally {
    await ended(held, 'SIGKILL');
  }
}

/** Connections in which an algorithm may show itself. */
const PROBES = 10;

/** Throws `Unavailable` if the product does not do what the row is about. */
async function insist(bed: Bed, atClient: Tcpcrypt, { suites, keyExchanges }: Algorithms): Promise<void> {
  let found = await probe(bed, atClient);
  for (let i = 1; i < PROBES && found === undefined; i++) found = await probe(bed, atClient);
  if (found === undefined) throw new Unavailable('tcpcrypt does not encrypt with this policy');
  for (const [wanted, got] of [
    [suites?.[0], found.suite],
    [keyExchanges?.[0], found.keyExchange],
  ])
    if (wanted !== undefined && wanted !== got)
      throw new Unavailable(`tcpcrypt does not offer ${wanted}: it took ${got}`);
}

const decided = (tcpcrypt: Tcpcrypt, labels: Record<string, string>): number =>
  total(tcpcrypt.metrics(), 'tcpcrypt_connections_total', labels);

function plainConnections(tcpcrypt: Tcpcrypt) {
  const plain = decided(tcpcrypt, { outcome: 'plain' });
  const why = Object.entries(tcpcrypt.fallbacks()).map(([reason, count]) => `${reason} ${count}`);
  return { plain, all: decided(tcpcrypt, {}), why: why.join(', ') };
}

/** Histograms' buckets are left out. */
function counters(tcpcrypt: Tcpcrypt | undefined): Counters {
  const samples = tcpcrypt?.metrics().filter(({ name }) => /_(total|sum|count)$/.test(name)) ?? [];
  return new Map(
    samples.map(({ name, labels, value }) => [`${name} ${Object.values(labels).join(' ')}`.trim(), value]),
  );
}

function remarks(tcpcrypt: Tcpcrypt, sessions: Sessions): string[] {
  if (sessions === 'new') return [];
  const encrypted = decided(tcpcrypt, { outcome: 'encrypted' });
  const cached = decided(tcpcrypt, { outcome: 'encrypted', handshake: 'cached' });
  // The first connections at once find nothing in the cache yet.
  return cached < 0.99 * encrypted ? [`only ${cached} of ${encrypted} connections resumed a session`] : [];
}

async function start(bed: Bed, variant: Variant, sessions: Sessions): Promise<Running> {
  const { where, ...algorithms } = variant;
  const policy = { algorithms, ...(sessions === 'new' ? { sessionCache: { enabled: false } } : {}) };
  const hosts = where === 'client' ? [bed.client] : [bed.client, bed.server];
  const running: Tcpcrypt[] = [];
  const stop = async (): Promise<void> => {
    await Promise.all(running.map((each) => each[Symbol.asyncDispose]()));
  };
  try {
    for (const host of hosts) running.push(await startEnd(bed, host, policy));
    if (where !== 'client') await insist(bed, running[0], algorithms);
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    to: (service) => ({ address: bed.server.address4(), port: PORTS[service] }),
    pids: { client: [running[0].pid], server: running.slice(1).map((each) => each.pid) },
    counters: () => ({ client: counters(running[0]), server: counters(running[1]) }),
    ...(where !== 'client' && {
      plainConnections: () => plainConnections(running[0]),
      remarks: (asked: Sessions) => remarks(running[0], asked),
      countsEncrypted: algorithms.keyExchanges?.[0] === RSA,
    }),
    [Symbol.asyncDispose]: stop,
  };
}

function row(
  name: string,
  about: string,
  variant: Variant,
  measures: readonly Measure[],
  group: Row['group'],
) {
  return { name, group, about, measures, start: (bed, sessions) => start(bed, variant, sessions) } as Row;
}

const perConnection: readonly Measure[] = ['throughput', 'latency'];

export const tcpcryptRows: readonly Row[] = [
  row('tcpcrypt', 'tcpcrypt with its default policy', {}, MEASURES, 'tcpcrypt'),
  row(
    'tcpcrypt-fallback',
    'tcpcrypt with a peer that does not have it: plain TCP',
    { where: 'client' },
    MEASURES.filter((measure) => measure !== 'cached'),
    'tcpcrypt',
  ),
  // A session's suite costs nothing at its setup, and a key exchange nothing after it.
  ...[...SUITES.keys()].map((name) =>
    row(name, `tcpcrypt, suite ${name}`, { suites: [name] }, perConnection, 'suite'),
  ),
  ...[...KEY_EXCHANGES.keys()].map((name) =>
    row(name, `tcpcrypt, key exchange ${name}`, { keyExchanges: [name] }, ['new'], 'key exchange'),
  ),
];
