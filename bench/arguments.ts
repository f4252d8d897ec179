/** The command line of `npm run bench`, parsed and checked. Pure. */
import { parseArgs } from 'node:util';
import { TcpcryptError } from '../errors/catalogue.ts';

export interface Arguments {
  readonly help: boolean;
  readonly list: boolean;
  readonly quick: boolean;
  readonly profile: boolean;
  readonly docs: boolean;
  /** Names of rows, in the table's order. */
  readonly rows: readonly string[];
  readonly rounds: number;
  readonly seconds: number;
  /** Of the cable, bytes. */
  readonly mtu: number;
  readonly seed: number;
  readonly json: string | undefined;
}

export const HELP = `usage: npm run bench -- [options]

Measures tcpcrypt, plain TCP, TLS proxies, userspace tunnels and the floors in one run. Needs root.

  --only ROW,...   these rows and plain (--list names them)
  --rounds N       rounds, of which the median counts; default 3
  --seconds N      length of each transfer; default 1
  --mtu N          of the cable; default 1500
  --seed N         of the order of the rows; default: a new one, which is printed
  --quick          one round of about a second each: shows that it works, measures nothing
  --profile        instead of the table, where tcpcrypt's time goes (rows of tcpcrypt only; default tcpcrypt)
  --json FILE      writes the result; a chart goes beside it, with the ending .svg
  --docs           writes docs/performance.json, docs/performance.svg and the table in docs/performance.md
  --list           names the rows
  --help
`;

/** Throws ERR_TCPCRYPT_USAGE. `known` are the rows' names, `newSeed` makes a seed where none is given. */
export function parseArguments(
  args: readonly string[],
  known: readonly string[],
  newSeed: () => number,
): Arguments {
  const values = parse(args);
  const quick = values.quick;
  const profile = values.profile;
  return {
    help: values.help,
    list: values.list,
    quick,
    profile,
    docs: values.docs,
    rows: selectRows(values.only, known, profile),
    rounds: wholeNumber('rounds', values.rounds, 1, 100) ?? (quick ? 1 : 3),
    seconds: wholeNumber('seconds', values.seconds, 1, 600) ?? 1,
    mtu: wholeNumber('mtu', values.mtu, 1280, 65_000) ?? 1500,
    seed: wholeNumber('seed', values.seed, 0, 0xffffffff) ?? newSeed(),
    json: values.json,
  };
}

const flag = { type: 'boolean', default: false } as const;
const text = { type: 'string' } as const;

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        ...{ quick: flag, profile: flag, docs: flag, list: flag, help: flag },
        ...{ only: text, rounds: text, seconds: text, seed: text, mtu: text, json: text },
      },
    }).values;
  } catch (error) {
    throw usage((error as Error).message);
  }
}

function selectRows(only: string | undefined, known: readonly string[], profile: boolean): readonly string[] {
  if (only === undefined) return profile ? ['tcpcrypt'] : known;
  const names = new Set(only.split(',').map((name) => name.trim()));
  for (const name of names) if (!known.includes(name)) throw usage(`there is no row '${name}'; see --list`);
  if (!profile) names.add('plain');
  return known.filter((name) => names.has(name));
}

function wholeNumber(name: string, value: string | undefined, least: number, most: number) {
  if (value === undefined) return undefined;
  const number = /^\d+$/.test(value) ? Number(value) : Number.NaN;
  if (!(number >= least && number <= most))
    throw usage(`--${name} takes a whole number from ${least} to ${most}, not '${value}'`);
  return number;
}

const usage = (message: string): TcpcryptError => new TcpcryptError('ERR_TCPCRYPT_USAGE', message);
