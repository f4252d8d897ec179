/** YAML (of which JSON is a subset) to plain values, bounded. */
import { LineCounter, parseDocument } from 'yaml';

export const MAX_TEXT_BYTES = 1 << 20;

export type Parsed = { readonly value: unknown } | { readonly problem: string };

/** `secret`: the problem says where it is, but repeats nothing of the text. */
export function parseText(text: string, { secret = false } = {}): Parsed {
  if (Buffer.byteLength(text) > MAX_TEXT_BYTES) return { problem: `is larger than ${MAX_TEXT_BYTES} bytes` };
  const lines = new LineCounter();
  try {
    const document = parseDocument(text, { prettyErrors: false, lineCounter: lines, logLevel: 'error' });
    const [error] = document.errors;
    if (error === undefined) return { value: document.toJS({ maxAliasCount: 100 }) };
    const { line, col } = lines.linePos(error.pos[0]);
    return {
      problem: `is not YAML or JSON: line ${line}, column ${col}: ${secret ? error.code : error.message}`,
    };
  } catch (error) {
    return { problem: secret ? 'is not YAML or JSON' : `is not YAML or JSON: ${(error as Error).message}` };
  }
}
