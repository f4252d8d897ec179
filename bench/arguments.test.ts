import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseArguments } from './arguments.ts';

const known = ['plain', 'haproxy-1', 'tcpcrypt'];
const parse = (...args: string[]) => parseArguments(args, known, () => 77);

test('defaults: every row, three rounds of a second, a new seed', () => {
  assert.deepEqual(parse(), {
    ...{ help: false, list: false, quick: false, profile: false, docs: false },
    ...{ rows: known, rounds: 3, seconds: 1, mtu: 1500, seed: 77, json: undefined },
  });
});

test('--quick is one short round, unless something else is said', () => {
  assert.partialDeepStrictEqual(parse('--quick'), { quick: true, rounds: 1, seconds: 1 });
  assert.partialDeepStrictEqual(parse('--quick', '--rounds', '2'), { quick: true, rounds: 2, seconds: 1 });
});

test('--only takes names in any order; plain is always there, for the ratios', () => {
  assert.deepEqual(parse('--only', 'tcpcrypt').rows, ['plain', 'tcpcrypt']);
  assert.deepEqual(parse('--only', 'tcpcrypt, haproxy-1').rows, known);
});

test('--profile is about tcpcrypt alone', () => {
  assert.deepEqual(parse('--profile').rows, ['tcpcrypt']);
  assert.deepEqual(parse('--profile', '--only', 'tcpcrypt').rows, ['tcpcrypt']);
});

test('numbers and files', () => {
  const args = parse(
    '--rounds=5',
    '--seconds',
    '10',
    '--seed',
    '4294967295',
    '--mtu',
    '9000',
    '--json',
    'out.json',
  );
  assert.partialDeepStrictEqual(args, {
    rounds: 5,
    seconds: 10,
    seed: 0xffffffff,
    mtu: 9000,
    json: 'out.json',
  });
});

test('what is wrong is refused with its name', () => {
  for (const [args, says] of [
    [['--only', 'nginx'], /no row 'nginx'/],
    [['--only', ''], /no row ''/],
    [['--rounds', '0'], /--rounds takes a whole number from 1 to 100, not '0'/],
    [['--rounds', '1e1'], /--rounds/],
    [['--seconds', '1.5'], /--seconds/],
    [['--mtu', '576'], /--mtu takes a whole number from 1280/],
    [['--seed=-1'], /--seed/],
    [['--seed', '4294967296'], /--seed/],
    [['--fast'], /--fast/],
    [['plain'], /plain/],
    [['--json'], /--json/],
  ] as const) {
    assert.throws(() => parse(...args), { code: 'ERR_TCPCRYPT_USAGE', message: says }, args.join(' '));
  }
});
