/**
 * The rewriter with one rule of wire.md section 4 left out: a copy of its sources with one piece of text replaced.
 * The text must be there, so that a mutant cannot quietly become the original.
 */
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { RewriterClass } from './search.ts';

export interface Mutant {
  /** The rule that is left out. */
  readonly rule: string;
  readonly file: string;
  readonly from: string;
  readonly to: string;
  /** What the search must find. */
  readonly finds: RegExp;
}

const root = fileURLToPath(new URL('../..', import.meta.url));

export const mutants: readonly Mutant[] = [
  {
    rule: 'S holds what its kernel sends until the first valid MAC',
    file: 's-mode.ts',
    from: '  rw.hold(c, p, token);',
    to: "  if (c.phase === 's_mode') return sendEncrypted(rw, c, p, token);\n  rw.hold(c, p, token);",
    finds: /ciphertext/,
  },
  {
    rule: 'a segment that acknowledges bytes of our INIT is no fallback (S)',
    file: 's-mode.ts',
    from: 'arrival.ackOffset > 1 || isInitData',
    to: 'isInitData',
    finds: /different modes/,
  },
  {
    rule: 'INIT data without its option is known by its bytes, after the fallback',
    file: 'plain.ts',
    from: "  if (isInitData(c, p, offset)) return rw.drop(token, 'stripped_init');",
    to: '',
    finds: /wrong byte/,
  },
  {
    rule: 'a segment with CRYPT<INIT> is dropped after the fallback',
    file: 'plain.ts',
    from: "    return rw.drop(token, 'init_after_fallback');\n  }\n  const offset",
    to: '    return rw.pass(token, rw.withoutOurOptions(p));\n  }\n  const offset',
    finds: /wrong byte/,
  },
  {
    rule: 'nothing goes to a kernel beyond a gap after a PKCONF',
    file: 'plain.ts',
    from: "  if (offset > next && mayBeInit) return rw.drop(token, 'beyond_gap');",
    to: '',
    finds: /wrong byte/,
  },
  {
    rule: 'C holds what its kernel sends before INIT2',
    file: 'c-mode.ts',
    from: '  rw.hold(c, p, token);',
    to: '  rw.pass(token);',
    finds: /different modes/,
  },
];

/** The mutant's class, from a copy under .cache, inside the project so that packages resolve. */
export async function load(mutant: Mutant, index: number): Promise<RewriterClass> {
  const copy = join(root, '.cache', 'mutants', String(index));
  rmSync(copy, { recursive: true, force: true });
  mkdirSync(copy, { recursive: true });
  for (const layer of ['wire', 'crypto', 'protocol', 'rewriter']) {
    cpSync(join(root, 'sidecar', layer), join(copy, layer), {
      recursive: true,
      filter: (path) => !path.endsWith('.test.ts'),
    });
  }
  const path = join(copy, 'rewriter', mutant.file);
  const source = readFileSync(path, 'utf8');
  if (source.split(mutant.from).length !== 2)
    throw new Error(`${mutant.file} does not hold this text once: ${mutant.from}`);
  let mutated = source.replace(mutant.from, mutant.to);
  if (mutant.to.includes('sendEncrypted') && !source.includes('sendEncrypted')) {
    mutated = `import { sendEncrypted } from './encrypting.ts';\n${mutated}`;
  }
  writeFileSync(path, mutated);
  const { Rewriter } = await import(pathToFileURL(join(copy, 'rewriter', 'rewriter.ts')).href);
  return Rewriter;
}
