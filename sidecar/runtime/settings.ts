/**
 * Policy and trust-domain keys: where they come from, and when they are read again. What is wrong is logged and
 * counted, and what is in force stays. The last good ones are kept in the state directory (memory), so a process
 * that starts again begins with them where nobody else names any.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type ErrorCode, TcpcryptError } from '../../errors/catalogue.ts';
import { errorFields, type Logger } from '../../observability/log.ts';
import { type PolicyDocument, parsePolicy } from '../../policy/document.ts';
import { policyGeneration } from '../../policy/evaluate.ts';
import { parseKeys, trustKeyId } from '../../policy/keys.ts';
import { watchFile } from '../../policy/watch.ts';
import type { TrustKey } from '../protocol/types.ts';
import type { Metrics } from './metrics.ts';

type What = 'policy' | 'keys';

export interface SettingsOptions {
  readonly policyFile: string | undefined;
  /** A policy's text, for where no file is named and none was kept; undefined: the built-in one. */
  readonly initialPolicy?: string | undefined;
  readonly keysFile: string | undefined;
  readonly stateDir: string | undefined;
  readonly log: Logger;
  readonly metrics: Metrics;
}

/** Whom changes are told. */
export interface Apply {
  setPolicy(document: PolicyDocument): void;
  setTrustKeys(keys: readonly TrustKey[]): void;
}

const BUILT_IN_POLICY = '{}';
const NO_KEYS = '{"keys": []}';

export class Settings {
  policy: PolicyDocument;
  trustKeys: readonly TrustKey[];
  readonly #options: SettingsOptions;
  readonly #texts: Record<What, string>;
  #apply: Apply | undefined;
  #watches: { close(): void }[] = [];

  /** Reads what to begin with. A file that is named and wrong is an error, unless the state directory has a last good one. */
  constructor(options: SettingsOptions) {
    this.#options = options;
    this.#texts = {
      policy: this.#first('policy', (text) => parsePolicy(text)) ?? options.initialPolicy ?? BUILT_IN_POLICY,
      keys: this.#first('keys', (text) => parseKeys(text)) ?? NO_KEYS,
    };
    this.policy = parsePolicy(this.#texts.policy).document;
    this.trustKeys = parseKeys(this.#texts.keys).keys;
    this.#publish();
  }

  /** Changes go to `apply` from now on; files are watched. */
  start(apply: Apply): void {
    this.#apply = apply;
    for (const what of ['policy', 'keys'] as const) {
      const file = this.#file(what);
      if (file === undefined) continue;
      const watch = watchFile(file, (text) => this.#try(what, () => this.#take(what, text)), {
        initial: this.#texts[what],
        onError: (error) => this.#try(what, () => fail(what, error)),
      });
      this.#watches.push(watch);
    }
  }

  /** Reads the files again (SIGHUP). */
  reload(): void {
    for (const what of ['policy', 'keys'] as const) {
      const file = this.#file(what);
      if (file !== undefined) this.#try(what, () => this.#take(what, read(what, file)));
    }
  }

  /** Throws ERR_TCPCRYPT_POLICY_INVALID. */
  setPolicy(text: string): { generation: string; warnings: readonly string[] } {
    return this.#count('policy', () => this.#takePolicy(text));
  }

  /** Throws ERR_TCPCRYPT_KEYS_INVALID. */
  setKeys(text: string): { keyIds: readonly string[]; warnings: readonly string[] } {
    return this.#count('keys', () => this.#takeKeys(text));
  }

  close(): void {
    for (const watch of this.#watches.splice(0)) watch.close();
  }

  #file(what: What): string | undefined {
    return what === 'policy' ? this.#options.policyFile : this.#options.keysFile;
  }

  #lastFile(what: What): string | undefined {
    return this.#options.stateDir && join(this.#options.stateDir, `last-${what}`);
  }

  #first(what: What, check: (text: string) => void): string | undefined {
    const file = this.#file(what);
    const last = this.#lastFile(what);
    try {
      if (file === undefined) return last && readChecked(last, check);
      const text = read(what, file);
      check(text);
      return text;
    } catch (error) {
      const kept = last && readChecked(last, check);
      if (kept === undefined) throw error;
      this.#options.log.error({ ...errorFields(error), what }, 'the last good one is used');
      return kept;
    }
  }

  #take(what: What, text: string): void {
    if (what === 'policy') this.#takePolicy(text);
    else this.#takeKeys(text);
  }

  #takePolicy(text: string): { generation: string; warnings: readonly string[] } {
    const { document, warnings } = parsePolicy(text);
    this.policy = document;
    this.#apply?.setPolicy(document);
    this.#keep('policy', text);
    const generation = this.#publish();
    this.#options.log.info({ generation, mode: document.mode, warnings }, 'policy in force');
    return { generation, warnings };
  }

  #takeKeys(text: string): { keyIds: readonly string[]; warnings: readonly string[] } {
    const { keys, warnings } = parseKeys(text);
    this.trustKeys = keys;
    this.#apply?.setTrustKeys(keys);
    this.#keep('keys', text);
    this.#publish();
    const keyIds = keys.map(({ key }) => trustKeyId(key));
    this.#options.log.info({ keyIds, warnings }, 'trust-domain keys in force');
    return { keyIds, warnings };
  }

  #keep(what: What, text: string): void {
    this.#texts[what] = text;
    const path = this.#lastFile(what);
    if (path === undefined) return;
    try {
      writeFileSync(`${path}.new`, text, { mode: 0o600 });
      renameSync(`${path}.new`, path);
    } catch (error) {
      this.#options.log.error(errorFields(error), `the ${what} could not be kept for a restart`);
    }
  }

  #publish(): string {
    const generation = policyGeneration(this.policy);
    const { metrics } = this.#options;
    metrics.replace('tcpcrypt_policy_info', [[{ generation }, 1]]);
    metrics.replace(
      'tcpcrypt_trust_key_info',
      this.trustKeys.map(({ key, offered }) => {
        return [{ key_id: trustKeyId(key), state: offered ? 'offered' : 'accepted' }, 1];
      }),
    );
    return generation;
  }

  #try(what: What, action: () => void): void {
    try {
      this.#count(what, action);
    } catch (error) {
      this.#options.log.error({ ...errorFields(error), what }, 'not taken; what was in force stays');
    }
  }

  #count<T>(what: What, action: () => T): T {
    try {
      const result = action();
      this.#options.metrics.add('tcpcrypt_reloads_total', { what, result: 'success' });
      return result;
    } catch (error) {
      this.#options.metrics.add('tcpcrypt_reloads_total', { what, result: 'failure' });
      throw error;
    }
  }
}

/** Throws the code of what could not be read. */
function fail(what: What, error: unknown): never {
  const code: ErrorCode = what === 'policy' ? 'ERR_TCPCRYPT_POLICY_INVALID' : 'ERR_TCPCRYPT_KEYS_INVALID';
  throw new TcpcryptError(code, (error as Error).message, { cause: error });
}

function read(what: What, file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    fail(what, error);
  }
}

/** The file's text if it is there and right. */
function readChecked(file: string, check: (text: string) => void): string | undefined {
  try {
    const text = readFileSync(file, 'utf8');
    check(text);
    return text;
  } catch {
    return undefined;
  }
}
