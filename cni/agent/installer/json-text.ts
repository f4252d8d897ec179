/**
 * Where the parts of a JSON text stand, so that one can be changed and every other byte left as it was. For text that
 * JSON.parse takes; for any other what comes out means nothing.
 */

/** Offsets in the text; `end` is the first one after. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

/** The value of an object's member; the last one where a name stands twice, as for JSON.parse. */
export function memberSpan(text: string, name: string): Span | undefined {
  let found: Span | undefined;
  let at = skipSpace(text, skipSpace(text, 0) + 1);
  while (text[at] === '"') {
    const nameEnd = endOfString(text, at);
    const start = skipSpace(text, skipSpace(text, nameEnd) + 1);
    const end = endOfValue(text, start);
    if (JSON.parse(text.slice(at, nameEnd)) === name) found = { start, end };
    at = skipSpace(text, end);
    if (text[at] === ',') at = skipSpace(text, at + 1);
  }
  return found;
}

/** The elements of the array that stands at `array`. */
export function elementSpans(text: string, array: Span): readonly Span[] {
  const spans: Span[] = [];
  let at = skipSpace(text, array.start + 1);
  while (at < array.end && text[at] !== ']') {
    const end = endOfValue(text, at);
    spans.push({ start: at, end });
    at = skipSpace(text, end);
    if (text[at] === ',') at = skipSpace(text, at + 1);
  }
  return spans;
}

function skipSpace(text: string, at: number): number {
  while (at < text.length && ' \t\r\n'.includes(text[at]!)) at++;
  return at;
}

function endOfString(text: string, at: number): number {
  for (let i = at + 1; i < text.length; i++) {
    if (text[i] === '\\') i++;
    else if (text[i] === '"') return i + 1;
  }
  return text.length;
}

/** Brackets balance, and strings hide theirs. */
function endOfValue(text: string, at: number): number {
  let depth = 0;
  for (let i = at; i < text.length; ) {
    const c = text[i]!;
    if (c === '"') {
      i = endOfString(text, i);
      if (depth === 0) return i;
      continue;
    }
    if (c === '{' || c === '[') depth++;
    else if (c === '}' || c === ']') {
      if (depth === 0) return i;
      if (--depth === 0) return i + 1;
    } else if (depth === 0 && ', \t\r\n'.includes(c)) return i;
    i++;
  }
  return text.length;
}
