/**
 * The policy document: the `spec` of a TcpcryptPolicy without its podSelector, as YAML or JSON. The
 * operator writes it, `tcpcrypt run --policy FILE` and the control socket read it. This folder imports
 * only `errors/`. Invariant: a `PolicyDocument` is complete and valid; what is not never becomes one.
 */
import { TcpcryptError } from '../errors/catalogue.ts';
import { DEFAULT_KEY_EXCHANGES, DEFAULT_SUITES, KEY_EXCHANGES, SUITES } from './algorithms.ts';
import { type Cidr, parseCidr, within } from './cidr.ts';
import { parseBytes, parseDurationMs } from './quantity.ts';
import { parseText } from './text.ts';
import { show, Validator } from './validate.ts';

export const MODES = ['Opportunistic', 'Strict', 'Audit', 'Disabled'] as const;
export const AUTHENTICATIONS = ['Optional', 'Required'] as const;
export const DIRECTIONS = ['Inbound', 'Outbound', 'Both'] as const;

export type Mode = (typeof MODES)[number];
export type Authentication = (typeof AUTHENTICATIONS)[number];

export interface PortRange {
  readonly port: number;
  readonly endPort: number;
}

export interface PeerBlock {
  readonly cidr: Cidr;
  readonly except: readonly Cidr[];
}

export interface PolicyRule {
  readonly direction: (typeof DIRECTIONS)[number];
  /** Of the listener; empty: every port. */
  readonly ports: readonly PortRange[];
  /** Empty: every address. */
  readonly peers: readonly PeerBlock[];
  readonly mode: Mode;
  readonly authentication: Authentication;
}

/** With every default filled in, quantities in bytes and milliseconds, algorithms as numbers. */
export interface PolicyDocument {
  readonly mode: Mode;
  readonly authentication: Authentication;
  /** First match wins. */
  readonly rules: readonly PolicyRule[];
  readonly sessionCache: {
    readonly enabled: boolean;
    readonly maxEntries: number;
    readonly lifetimeMs: number;
  };
  readonly algorithms: { readonly keyExchanges: readonly number[]; readonly suites: readonly number[] };
  /** `afterMs` is Infinity where time alone never re-keys. */
  readonly rekey: { readonly afterBytes: number; readonly afterMs: number };
  readonly pathChecks: { readonly enabled: boolean; readonly server: string };
  readonly rstCheck: boolean;
}

export type Checked =
  | { readonly document: PolicyDocument; readonly warnings: readonly string[] }
  | { readonly problems: readonly string[]; readonly warnings: readonly string[] };

const MAX_RULES = 256;
const MAX_PORTS = 64;
const MAX_PEERS = 256;
const MAX_CACHE_ENTRIES = 1_000_000;
const MAX_LIFETIME_MS = 7 * 24 * 3_600_000;
/** One super-segment; keys that change faster could be two generations ahead of what the peer expects. */
const MIN_REKEY_BYTES = 64 * 1024;
/** wire.md, section 5: at least every 2^36 bytes. */
const MAX_REKEY_BYTES = 2 ** 36;
const SHOWN_PROBLEMS = 20;

/** Reads YAML or JSON. Throws ERR_TCPCRYPT_POLICY_INVALID, whose message lists every problem. */
export function parsePolicy(text: string): { document: PolicyDocument; warnings: readonly string[] } {
  const parsed = parseText(text);
  const checked =
    'value' in parsed ? checkPolicy(parsed.value) : { problems: [`the policy ${parsed.problem}`] };
  if ('document' in checked) return checked;
  const { problems } = checked;
  const more = problems.length > SHOWN_PROBLEMS ? `; and ${problems.length - SHOWN_PROBLEMS} more` : '';
  throw new TcpcryptError('ERR_TCPCRYPT_POLICY_INVALID', problems.slice(0, SHOWN_PROBLEMS).join('; ') + more);
}

/** Checks a document that is parsed already. */
export function checkPolicy(value: unknown): Checked {
  const v = new Validator();
  const document = readDocument(v, value);
  const { problems, warnings } = v;
  return problems.length === 0 ? { document, warnings } : { problems, warnings };
}

/** An empty file would silently be the built-in policy: it is more likely one that is half-written. */
function refuseWrongKind(v: Validator, value: unknown): void {
  if (value === undefined || value === null) {
    v.problem('', 'is empty; write {} for the built-in policy');
  } else if (typeof value === 'object' && 'kind' in value && 'spec' in value) {
    v.problem('', `is a whole resource (kind ${show(value.kind)}); only what is under its spec belongs here`);
  }
}

function readDocument(v: Validator, value: unknown): PolicyDocument {
  refuseWrongKind(v, value);
  const f = v.fields('', value, [
    'mode',
    'authentication',
    'rules',
    'sessionCache',
    'algorithms',
    'rekey',
    'pathChecks',
    'rstCheck',
  ]);
  const mode = v.oneOf('mode', f.mode, MODES, 'Opportunistic');
  const authentication = v.oneOf('authentication', f.authentication, AUTHENTICATIONS, 'Optional');
  return {
    mode,
    authentication,
    rules: v
      .list('rules', f.rules, MAX_RULES)
      .map((rule, i) => readRule(v, `rules[${i}]`, rule, mode, authentication)),
    sessionCache: readSessionCache(v, f.sessionCache),
    algorithms: readAlgorithms(v, f.algorithms),
    rekey: readRekey(v, f.rekey),
    pathChecks: readPathChecks(v, f.pathChecks),
    rstCheck: v.boolean('rstCheck', f.rstCheck, false),
  };
}

function readRule(
  v: Validator,
  path: string,
  value: unknown,
  mode: Mode,
  authentication: Authentication,
): PolicyRule {
  const f = v.fields(path, value, ['direction', 'ports', 'peers', 'mode', 'authentication']);
  if (f.mode === undefined && f.authentication === undefined) {
    v.problem(path, 'must set mode or authentication');
  }
  return {
    direction: v.oneOf(`${path}.direction`, f.direction, DIRECTIONS, 'Both'),
    ports: v
      .list(`${path}.ports`, f.ports, MAX_PORTS)
      .map((port, i) => readPort(v, `${path}.ports[${i}]`, port)),
    peers: v
      .list(`${path}.peers`, f.peers, MAX_PEERS)
      .map((peer, i) => readPeer(v, `${path}.peers[${i}]`, peer))
      .filter((peer) => peer !== undefined),
    mode: v.oneOf(`${path}.mode`, f.mode, MODES, mode),
    authentication: v.oneOf(`${path}.authentication`, f.authentication, AUTHENTICATIONS, authentication),
  };
}

function readPort(v: Validator, path: string, value: unknown): PortRange {
  const f = v.fields(path, value, ['port', 'endPort']);
  if (f.port === undefined) v.problem(`${path}.port`, 'is missing');
  const port = v.integer(`${path}.port`, f.port, 1, 65_535, 1);
  const endPort = v.integer(`${path}.endPort`, f.endPort, 1, 65_535, port);
  if (endPort < port) v.problem(`${path}.endPort`, `must not be below port (${port}), not ${endPort}`);
  return { port, endPort };
}

function readPeer(v: Validator, path: string, value: unknown): PeerBlock | undefined {
  const f = v.fields(path, value, ['cidr', 'except']);
  if (f.cidr === undefined) {
    v.problem(`${path}.cidr`, 'is missing');
    return undefined;
  }
  const cidr = readCidr(v, `${path}.cidr`, f.cidr);
  const except = v
    .list(`${path}.except`, f.except, MAX_PEERS)
    .map((block, i) => {
      const parsed = readCidr(v, `${path}.except[${i}]`, block);
      if (parsed !== undefined && cidr !== undefined && !within(parsed, cidr)) {
        v.problem(`${path}.except[${i}]`, `must lie within ${show(f.cidr)}, which ${show(block)} does not`);
      }
      return parsed;
    })
    .filter((block) => block !== undefined);
  return cidr === undefined ? undefined : { cidr, except };
}

function readCidr(v: Validator, path: string, value: unknown): Cidr | undefined {
  const cidr = typeof value === 'string' ? parseCidr(value) : undefined;
  if (cidr === undefined) {
    v.problem(path, `must be a CIDR block such as 10.0.0.0/8, 10.1.2.3/32 or fd00::/8, not ${show(value)}`);
  }
  return cidr;
}

function readSessionCache(v: Validator, value: unknown): PolicyDocument['sessionCache'] {
  const f = v.fields('sessionCache', value, ['enabled', 'maxEntries', 'lifetime']);
  return {
    enabled: v.boolean('sessionCache.enabled', f.enabled, true),
    maxEntries: v.integer('sessionCache.maxEntries', f.maxEntries, 0, MAX_CACHE_ENTRIES, 10_000),
    lifetimeMs: v.quantity(
      'sessionCache.lifetime',
      f.lifetime,
      parseDurationMs,
      (ms) => ms > 0 && ms <= MAX_LIFETIME_MS,
      'a duration such as 1h or 1h30m, more than 0s and at most 168h (enabled: false turns the cache off)',
      3_600_000,
    ),
  };
}

function readAlgorithms(v: Validator, value: unknown): PolicyDocument['algorithms'] {
  const f = v.fields('algorithms', value, ['keyExchanges', 'suites']);
  return {
    keyExchanges: readNames(
      v,
      'algorithms.keyExchanges',
      f.keyExchanges,
      KEY_EXCHANGES,
      DEFAULT_KEY_EXCHANGES,
    ),
    suites: readNames(v, 'algorithms.suites', f.suites, SUITES, DEFAULT_SUITES),
  };
}

/** Names to ids, in order. A name that a later version may know is reported and left out; none left is wrong. */
function readNames(
  v: Validator,
  path: string,
  value: unknown,
  known: ReadonlyMap<string, number>,
  fallback: readonly number[],
): readonly number[] {
  if (value === undefined) return fallback;
  const before = v.problems.length;
  const ids = new Set<number>();
  v.list(path, value, 64).forEach((name, i) => {
    const id = typeof name === 'string' ? known.get(name) : undefined;
    if (id !== undefined) ids.add(id);
    else if (typeof name === 'string') v.warn(`${path}[${i}]`, `unknown algorithm ${show(name)}, ignored`);
    else v.problem(`${path}[${i}]`, `must be a name, not ${show(name)}`);
  });
  if (ids.size === 0 && v.problems.length === before) {
    v.problem(path, `names no known algorithm; known are ${[...known.keys()].join(', ')}`);
  }
  return [...ids];
}

function readRekey(v: Validator, value: unknown): PolicyDocument['rekey'] {
  const f = v.fields('rekey', value, ['afterBytes', 'after']);
  const afterMs = v.quantity(
    'rekey.after',
    f.after,
    parseDurationMs,
    (ms) => ms === 0 || ms >= 1_000,
    'a duration of at least 1s, or 0s for never',
    24 * 3_600_000,
  );
  return {
    afterBytes: v.quantity(
      'rekey.afterBytes',
      f.afterBytes,
      parseBytes,
      (bytes) => bytes >= MIN_REKEY_BYTES && bytes <= MAX_REKEY_BYTES,
      'a number of bytes from 64Ki to 64Gi',
      MAX_REKEY_BYTES,
    ),
    afterMs: afterMs === 0 ? Number.POSITIVE_INFINITY : afterMs,
  };
}

function readPathChecks(v: Validator, value: unknown): PolicyDocument['pathChecks'] {
  const f = v.fields('pathChecks', value, ['enabled', 'server']);
  const enabled = v.boolean('pathChecks.enabled', f.enabled, false);
  const server = f.server ?? '';
  if (typeof server !== 'string' || !/^[A-Za-z0-9._:-]{0,253}$/.test(server)) {
    v.problem('pathChecks.server', `must be a host name or an address, not ${show(server)}`);
    return { enabled, server: '' };
  }
  if (enabled && server === '') v.problem('pathChecks.server', 'is missing, and pathChecks.enabled is true');
  return { enabled, server };
}
