/**
 * `npm run simulate -- --seeds N --from S [--verbose] [--pcap FILE] [--bulk]`: runs seeds, prints each that fails with
 * the command that replays it, and exits 1 if any did. With `--bulk`, long streams in super-segments.
 */

import { parseArgs } from 'node:util';
import { passThrough } from './machine.ts';
import { realMachine } from './real-machine.ts';
import { replayCommand, runSeed, summary, tally, withoutRewriters } from './run.ts';
import { bulk } from './scenarios.testing.ts';
import { both, pcap, silent, verbose } from './trace.ts';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '1000' },
    from: { type: 'string', default: '1' },
    verbose: { type: 'boolean', default: false },
    pcap: { type: 'string' },
    'keep-going': { type: 'boolean', default: false },
    'pass-through': { type: 'boolean', default: false },
    bulk: { type: 'boolean', default: false },
  },
});

const from = Number(values.from);
const count = values.verbose ? 1 : Number(values.seeds);
if (!Number.isSafeInteger(from) || !Number.isSafeInteger(count) || count < 1) {
  console.error(
    'usage: npm run simulate -- --seeds N --from S [--verbose] [--pcap FILE] [--keep-going] [--bulk]',
  );
  process.exit(2);
}
const alone = values['pass-through'];
const factory = alone ? passThrough : realMachine;
const lines = values.verbose ? verbose((line) => console.log(line)) : silent;
const trace = values.pcap === undefined ? lines : both(lines, pcap(values.pcap));
const amend = alone ? withoutRewriters : values.bulk ? bulk : undefined;
const counters = tally();
const started = Date.now();
let failed = 0;
for (let seed = from; seed < from + count; seed++) {
  const result = runSeed(seed, factory, trace, amend);
  counters.add(result);
  if (values.verbose)
    console.log(
      JSON.stringify(
        result.scenario,
        (_, value) => (value instanceof Uint8Array ? Buffer.from(value).toString('hex') : value),
        1,
      ),
    );
  for (const { property, detail, atMs } of result.violations) {
    console.log(
      `seed ${seed}: ${property}: ${detail} (at ${atMs} ms)\n    ${replayCommand(seed)}${values.bulk ? ' --bulk' : ''}`,
    );
  }
  if (result.violations.length > 0) failed++;
  if (failed > 0 && !values['keep-going']) break;
  if ((seed - from + 1) % 1000 === 0) {
    console.log(`${seed - from + 1} seeds, ${((Date.now() - started) / 1000).toFixed(1)} s`);
  }
}
console.log(summary(counters));
process.exit(failed > 0 ? 1 : 0);
