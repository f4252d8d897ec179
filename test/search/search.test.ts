/** wire.md section 4: no reachable state breaks a stream; and each rule is needed, which leaving it out shows. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Rewriter } from '../../sidecar/rewriter/rewriter.ts';
import { load, mutants } from './mutants.ts';
import { search } from './search.ts';

const DEPTH = 7;

describe('exhaustive search of setup and fallback', () => {
  it(`no state within ${DEPTH} actions hands over a wrong byte, parts the ends, or lets ciphertext be taken back`, (t) => {
    const result = search(Rewriter, DEPTH, Number.POSITIVE_INFINITY);
    t.diagnostic(`${result.states} states`);
    assert.equal(result.violation, undefined, JSON.stringify(result.trace));
    assert.ok(result.complete);
    for (const pair of [
      'encrypting encrypting',
      'plain plain',
      'c_mode s_mode',
      'plain s_mode',
      'plain listen',
    ]) {
      assert.ok(result.phases.has(pair), `never reached: ${pair}`);
    }
  });

  mutants.forEach((mutant, index) => {
    it(`finds the hole without: ${mutant.rule}`, async () => {
      const result = search(await load(mutant, index), DEPTH, 5000);
      assert.match(result.violation ?? 'nothing found', mutant.finds);
    });
  });
});
