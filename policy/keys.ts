/**
 * The trust-domain keys of `--keys FILE` (wire.md, section 7): `{ keys: [{ key, offered }] }`, YAML or
 * JSON, newest first. Invariant: nothing that may be key material, not even a field's name, gets into
 * an error or a warning.
 */
import { createHash } from 'node:crypto';
import { TcpcryptError } from '../errors/catalogue.ts';
import { parseText } from './text.ts';

/** By structure the `TrustKey` of sidecar/rewriter/types.ts. */
export interface TrustKey {
  /** 32 bytes. */
  readonly key: Uint8Array;
  /** False: accepted, but not named in our INIT1. */
  readonly offered: boolean;
}

export const KEY_BYTES = 32;
/** Their ids must fit INIT1 beside the largest key exchange, and INIT1 one segment. */
export const MAX_KEYS = 8;

/** Throws ERR_TCPCRYPT_KEYS_INVALID, whose message lists every problem. */
export function parseKeys(text: string): { keys: TrustKey[]; warnings: readonly string[] } {
  const parsed = parseText(text, { secret: true });
  if ('problem' in parsed) throw invalid([`the key file ${parsed.problem}`]);
  const problems: string[] = [];
  const warnings: string[] = [];
  const root = record(parsed.value);
  if (root === undefined || !Array.isArray(root['keys'])) throw invalid(['keys: must be a list']);
  noteUnknown(warnings, 'the key file', root, ['keys']);
  const list: readonly unknown[] = root['keys'];
  if (list.length > MAX_KEYS) throw invalid([`keys: has ${list.length} entries; ${MAX_KEYS} are allowed`]);

  const keys: TrustKey[] = [];
  const seen = new Map<string, number>();
  list.forEach((value, i) => {
    const entry = record(value);
    if (entry === undefined) {
      problems.push(`keys[${i}]: must be an object`);
      return;
    }
    noteUnknown(warnings, `keys[${i}]`, entry, ['key', 'offered']);
    const offered = entry['offered'] ?? true;
    if (typeof offered !== 'boolean') problems.push(`keys[${i}].offered: must be true or false`);
    const key = decodeKey(entry['key']);
    if (key === undefined) {
      problems.push(`keys[${i}].key: must be ${KEY_BYTES} bytes, not all zero, in quotes, as base64 or hex`);
      return;
    }
    const id = trustKeyId(key);
    const first = seen.get(id);
    if (first !== undefined) problems.push(`keys[${i}].key: is the same as keys[${first}].key`);
    else seen.set(id, i);
    keys.push({ key, offered: offered === true });
  });
  if (problems.length > 0) throw invalid(problems);
  return { keys, warnings };
}

/** A key's id in hex: the first 8 bytes of SHA-256("tcpcrypt key id" | key). */
export const trustKeyId = (key: Uint8Array): string =>
  createHash('sha256').update('tcpcrypt key id').update(key).digest('hex').slice(0, 16);

function decodeKey(value: unknown): Uint8Array | undefined {
  if (typeof value !== 'string') return undefined;
  const text = value.trim();
  const encoding = /^[0-9a-fA-F]{64}$/.test(text)
    ? 'hex'
    : /^[\w+/-]{43}=?$/.test(text)
      ? 'base64'
      : undefined;
  if (encoding === undefined) return undefined;
  const bytes = Buffer.from(text, encoding);
  return bytes.length === KEY_BYTES && bytes.some((byte) => byte !== 0) ? Uint8Array.from(bytes) : undefined;
}

function record(value: unknown): Record<string, unknown> | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : undefined;
}

function noteUnknown(warnings: string[], where: string, object: object, known: readonly string[]): void {
  const count = Object.keys(object).filter((name) => !known.includes(name)).length;
  if (count > 0) warnings.push(`${where}: ${count} unknown ${count === 1 ? 'field' : 'fields'}, ignored`);
}

const invalid = (problems: readonly string[]): TcpcryptError =>
  new TcpcryptError('ERR_TCPCRYPT_KEYS_INVALID', problems.join('; '));
