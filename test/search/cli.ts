/** `npm run search -- --depth N`: the exhaustive search, deeper than the tests go. */
import { parseArgs } from 'node:util';
import { Rewriter } from '../../sidecar/rewriter/rewriter.ts';
import { search } from './search.ts';

const { values } = parseArgs({ options: { depth: { type: 'string', default: '9' } } });
const depth = Number(values.depth);
if (!Number.isInteger(depth) || depth < 1) {
  console.error('usage: npm run search -- --depth N');
  process.exit(2);
}
for (let within = 1; within <= depth; within++) {
  const result = search(Rewriter, within, Number.POSITIVE_INFINITY);
  console.log(`within ${within} actions: ${result.states} states, ${result.violation ?? 'no violation'}`);
  if (!result.violation) continue;
  console.log(JSON.stringify(result.trace, undefined, 1));
  process.exit(1);
}
