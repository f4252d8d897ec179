/** The middleboxes that `middlebox.ts` can be, by the names its command line takes: `kind,option=value,…`. */
import { delay, duplicate, loseFirst, loss, reorder } from './disorder.ts';
import { forge } from './forgery.ts';
import { dropOptions, rewriteTimestamps, stripOptions, stripTimestamps } from './options.ts';
import { coalesce, correct, httpOnly, randomiseIsn, split } from './stream.ts';
import type { Factory, Transformation } from './transformation.ts';

export const kinds: Readonly<Record<string, Factory>> = {
  'strip-options': stripOptions,
  'drop-options': dropOptions,
  'strip-timestamps': stripTimestamps,
  'rewrite-timestamps': rewriteTimestamps,
  'randomise-isn': randomiseIsn,
  'http-only': httpOnly,
  split,
  coalesce,
  correct,
  forge,
  loss,
  'lose-first': loseFirst,
  duplicate,
  reorder,
  delay,
};

/** Makes the transformation that a text such as `loss,percent=5` names. */
export function parseKind(text: string): Transformation {
  const [name, ...pairs] = text.split(',');
  const factory = kinds[name];
  if (!factory) throw new Error(`no middlebox '${name}'; there are ${Object.keys(kinds).join(', ')}`);
  return factory(Object.fromEntries(pairs.map((pair) => pair.split('=', 2))));
}
