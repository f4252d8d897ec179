/**
 * A network configuration list (CNI specification, section 1) as text, with our entry and without. Pure. Invariant: no
 * byte changes but those of our own entry and the comma beside it.
 */
import { isDeepStrictEqual } from 'node:util';
import { elementSpans, memberSpan } from './json-text.ts';

/** The `type` of our entry, and the file name of the plugin. */
export const PLUGIN_TYPE = 'tcpcrypt';
/** What the executable speaks (cni/executable/src/cni-request.cc). */
const SUPPORTED_VERSIONS = ['0.3.1', '0.4.0', '1.0.0', '1.1.0'];

export interface Entry {
  readonly type: typeof PLUGIN_TYPE;
  readonly agentSocket: string;
  readonly agentUnavailable: 'Fail' | 'Skip';
  readonly exemptNamespaces: readonly string[];
}

export type Edit =
  /** It is as it should be. */
  | { readonly kind: 'same' }
  | { readonly kind: 'changed'; readonly text: string }
  /** It is none of ours to change; `reason` in words. */
  | { readonly kind: 'left_alone'; readonly reason: string };

interface List {
  readonly cniVersion?: unknown;
  readonly cniVersions?: unknown;
  readonly plugins: readonly { readonly type?: unknown }[];
}

/** With exactly one entry of ours, last where there was none. */
export function withEntry(text: string, entry: Entry): Edit {
  const list = parse(text);
  if (typeof list === 'string') return { kind: 'left_alone', reason: list };
  const versions = versionsOf(list);
  const strange = versions.find((version) => !SUPPORTED_VERSIONS.includes(version));
  if (strange !== undefined) {
    return { kind: 'left_alone', reason: `the plugin does not speak cniVersion ${strange}` };
  }
  const own = ownIndexes(list);
  if (own.length === 0) return checked(append(text, entry), { ...list, plugins: [...list.plugins, entry] });
  const [first, ...more] = own;
  if (more.length === 0 && isDeepStrictEqual(list.plugins[first!], entry)) return { kind: 'same' };
  const plugins = list.plugins
    .map((plugin, i) => (i === first ? entry : plugin))
    .filter((_, i) => !more.includes(i));
  return checked(replace(cut(text, more), first!, entry), { ...list, plugins });
}

export function withoutEntry(text: string): Edit {
  const list = parse(text);
  if (typeof list === 'string') return { kind: 'left_alone', reason: list };
  const own = ownIndexes(list);
  if (own.length === 0) return { kind: 'same' };
  // A list without plugins is none: whoever made one of ours alone must end it.
  if (own.length === list.plugins.length) return { kind: 'left_alone', reason: 'it has our entry alone' };
  return checked(cut(text, own), { ...list, plugins: list.plugins.filter((_, i) => !own.includes(i)) });
}

/** Whether a configuration file needs our executable; in doubt it does. */
export function namesPlugin(text: string): boolean {
  const quoted = JSON.stringify(PLUGIN_TYPE);
  return text.includes(quoted);
}

/** The list, or why it is none. */
function parse(text: string): List | string {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return 'it is no JSON';
  }
  const plugins = isObject(value) ? value['plugins'] : undefined;
  if (!Array.isArray(plugins) || plugins.length === 0 || !plugins.every(isObject))
    return 'it has no list of plugins';
  return value as unknown as List;
}

function versionsOf({ cniVersion, cniVersions }: List): string[] {
  const listed = Array.isArray(cniVersions) ? cniVersions : [];
  return [...(listed.length === 0 || cniVersion !== undefined ? [cniVersion] : []), ...listed].map(String);
}

function ownIndexes({ plugins }: List): number[] {
  return plugins.flatMap(({ type }, i) => (type === PLUGIN_TYPE ? [i] : []));
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The text must mean what was meant. If a strange text gets the better of the scanner, nothing is changed. */
function checked(text: string, expected: unknown): Edit {
  try {
    if (isDeepStrictEqual(JSON.parse(text), JSON.parse(JSON.stringify(expected))))
      return { kind: 'changed', text };
  } catch {
    // Said below.
  }
  return { kind: 'left_alone', reason: 'it is written in a way that cannot be changed in part' };
}

function spansOf(text: string) {
  return elementSpans(text, memberSpan(text, 'plugins') ?? { start: 0, end: 0 });
}

/** What stands before an element on its line, if that is space alone; undefined if it shares its line. */
function indentOf(text: string, start: number): string | undefined {
  const line = text.slice(text.lastIndexOf('\n', start - 1) + 1, start);
  return text.lastIndexOf('\n', start - 1) >= 0 && line.trim() === '' ? line : undefined;
}

function write(entry: Entry, indent: string | undefined): string {
  if (indent === undefined) return JSON.stringify(entry);
  return JSON.stringify(entry, null, indent.includes('\t') ? '\t' : 2).replaceAll('\n', `\n${indent}`);
}

function append(text: string, entry: Entry): string {
  const last = spansOf(text).at(-1);
  if (last === undefined) return text;
  const indent = indentOf(text, last.start);
  const gap = indent === undefined ? '' : `\n${indent}`;
  return `${text.slice(0, last.end)},${gap}${write(entry, indent)}${text.slice(last.end)}`;
}

function replace(text: string, index: number, entry: Entry): string {
  const span = spansOf(text)[index];
  if (span === undefined) return text;
  return text.slice(0, span.start) + write(entry, indentOf(text, span.start)) + text.slice(span.end);
}

/** Without some elements, each with the comma and the space that set it apart. */
function cut(text: string, indexes: readonly number[]): string {
  for (const index of indexes.toReversed()) {
    const spans = spansOf(text);
    const [before, span, after] = [spans[index - 1], spans[index], spans[index + 1]];
    if (span === undefined) continue;
    if (before !== undefined) text = text.slice(0, before.end) + text.slice(span.end);
    else text = text.slice(0, span.start) + text.slice(after?.start ?? span.end);
  }
  return text;
}
