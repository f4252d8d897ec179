/**
 * What the commands share of reading their arguments. Options are a table from which arguments are read and help is
 * written. Everything here throws ERR_TCPCRYPT_USAGE. This folder may import `errors/` and `observability/`.
 */
import { type ParseArgsConfig, type ParseArgsOptionsConfig, parseArgs } from 'node:util';
import { TcpcryptError } from '../errors/catalogue.ts';
import { logLevels } from '../observability/log.ts';

export interface OptionDeclaration {
  readonly type: 'string' | 'boolean';
  /** What stands for the value in the help. */
  readonly value?: string;
  readonly default?: string;
  readonly multiple?: true;
  /** For tests; not in the help. */
  readonly hidden?: true;
  readonly help: string;
}

export type OptionTable = Readonly<Record<string, OptionDeclaration>>;

/** Of every command. */
export const commonOptions = {
  'log-level': {
    type: 'string',
    value: 'LEVEL',
    default: 'info',
    help: `${logLevels.join(', ')}; JSON lines on standard error, pretty on a terminal`,
  },
  help: { type: 'boolean', help: 'says this' },
  version: { type: 'boolean', help: 'prints the version' },
} as const satisfies OptionTable;

interface Config<T extends ParseArgsOptionsConfig> {
  args: string[];
  options: T;
  allowPositionals: true;
}

/** As `parseArgs` of node:util, positionals allowed. */
export function parse<T extends ParseArgsOptionsConfig>(args: readonly string[], options: T) {
  const config: Config<T> & ParseArgsConfig = { args: [...args], options, allowPositionals: true };
  try {
    return parseArgs<Config<T>>(config);
  } catch (error) {
    throw usage((error as Error).message);
  }
}

export function optionRows(options: OptionTable): string {
  const shown = Object.entries(options).filter(([, option]) => option.hidden === undefined);
  return table(
    shown.map(([name, option]) => [
      `  --${name}${option.value === undefined ? '' : ` ${option.value}`}`,
      `${option.help}${option.default ? ` (default ${option.default})` : ''}`,
    ]),
  );
}

/** Two columns, a line each. */
export function table(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([left]) => left.length)) + 2;
  return rows.map(([left, right]) => `${left.padEnd(width)}${right}\n`).join('');
}

export function oneOf<T extends string>(name: string, value: string, known: readonly T[]): T {
  const found = known.find((each) => each === value);
  if (found === undefined) throw usage(`--${name} ${value} is not one of ${known.join(', ')}`);
  return found;
}

export function required(name: string, value: string | undefined): string {
  if (!value) throw usage(`--${name} is missing`);
  return value;
}

/** Seconds, to the millisecond, as milliseconds. */
export function durationMs(name: string, value: string): number {
  if (!/^\d{1,6}(\.\d{1,3})?$/.test(value)) throw usage(`--${name} ${value} is not a number of seconds`);
  return Number(value) * 1000;
}

/** Decimal or, after 0x, hexadecimal. */
export function integer(name: string, value: string, min: number, max: number): number {
  const number = /^(\d+|0x[0-9a-fA-F]+)$/.test(value) ? Number(value) : Number.NaN;
  if (!(number >= min && number <= max))
    throw usage(`--${name} ${value} is not a number from ${min} to ${max}`);
  return number;
}

export function usage(message: string): TcpcryptError {
  return new TcpcryptError('ERR_TCPCRYPT_USAGE', message);
}
