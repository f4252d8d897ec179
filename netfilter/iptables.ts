/**
 * Running iptables, and its text both ways. Both variants are called by their own names, never plain `iptables`: what
 * that means is the machine's choice. `--noflush` restores are atomic a table.
 */
import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { CHAIN_PREFIX, type Chain, type Family, type Table, type TableRules } from './rules.ts';

export type Variant = 'nft' | 'legacy';
export const VARIANTS: readonly Variant[] = ['nft', 'legacy'];
const TABLES: readonly Table[] = ['raw', 'mangle'];

/** Where commands act. */
export interface Where {
  /** Path of a network namespace; default the caller's own. */
  readonly netns?: string;
  /** For installing and verifying; default what `probe` finds. */
  readonly variant?: Variant;
}

/** One table as `iptables-save` prints it. */
export interface SavedTable {
  readonly table: string;
  /** Built-in and own, in order. */
  readonly chains: readonly (Chain & { readonly policy: string })[];
}

export interface Output {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command in the namespace. A command that cannot be started has status 127. */
export async function runIn(
  where: Where,
  command: string,
  args: readonly string[],
  input = '',
): Promise<Output> {
  const line =
    where.netns === undefined
      ? [command, ...args]
      : ['nsenter', `--net=${where.netns}`, '--', command, ...args];
  return await new Promise((resolve) => {
    const child = spawn(line[0]!, line.slice(1), { env: { ...process.env, ...lockFile() } });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text) => {
      stderr += text;
    });
    child.on('error', (error) => resolve({ status: 127, stdout, stderr: error.message }));
    child.on('close', (status) => resolve({ status: status ?? 128, stdout, stderr }));
    child.stdin.on('error', () => {});
    child.stdin.end(input);
  });
}

/** In a container with a read-only root file system the legacy variant could not make its lock file. */
function lockFile(): Record<string, string> {
  try {
    accessSync('/run', constants.W_OK);
    return {};
  } catch {
    return { XTABLES_LOCKFILE: '/dev/null' };
  }
}

function binary(family: Family, variant: Variant, action: 'save' | 'restore'): string {
  return `${family === 4 ? 'iptables' : 'ip6tables'}-${variant}-${action}`;
}

/** What is there. Reading leaves nothing behind: the legacy variant is asked only for tables that exist. */
export async function save(where: Where, family: Family, variant: Variant): Promise<readonly SavedTable[]> {
  if (variant === 'legacy') {
    const names = await runIn(where, 'cat', [`/proc/net/${family === 4 ? 'ip' : 'ip6'}_tables_names`]);
    if (names.stdout.trim() === '') return [];
  }
  const { status, stdout, stderr } = await runIn(where, binary(family, variant, 'save'), []);
  if (status === 127) return [];
  if (status !== 0) throw new Error(`${binary(family, variant, 'save')}: ${stderr.trim()}`);
  return parseSave(stdout);
}

/** What is there of both variants and families, under `snapshotKey`. */
export type Snapshot = ReadonlyMap<string, readonly SavedTable[]>;

export function snapshotKey(family: Family, variant: Variant): string {
  return `${variant} ${family}`;
}

/** One look for several uses: each `save` starts a process. */
export async function snapshot(where: Where): Promise<Snapshot> {
  const found = new Map<string, readonly SavedTable[]>();
  for (const variant of VARIANTS) {
    for (const family of [4, 6] as const) {
      found.set(snapshotKey(family, variant), await save(where, family, variant));
    }
  }
  return found;
}

/** Throws with what iptables said. Tables before the one that is refused have been changed. */
export async function restore(where: Where, family: Family, variant: Variant, text: string): Promise<void> {
  const command = binary(family, variant, 'restore');
  const { status, stderr } = await runIn(where, command, ['--noflush', '--wait', '10'], text);
  if (status !== 0) throw new Error(`${command}: ${stderr.trim() || `exit ${status}`}`);
}

export function parseSave(text: string): SavedTable[] {
  const tables: { table: string; chains: { name: string; policy: string; rules: string[] }[] }[] = [];
  for (const line of text.split('\n')) {
    const table = tables.at(-1);
    if (line.startsWith('*')) {
      tables.push({ table: line.slice(1).trim(), chains: [] });
    } else if (line.startsWith(':')) {
      const [name = '', policy = '-'] = line.slice(1).split(' ');
      table?.chains.push({ name, policy, rules: [] });
    } else if (line.startsWith('-A ')) {
      const end = line.indexOf(' ', 3);
      const name = line.slice(3, end);
      table?.chains.find((chain) => chain.name === name)?.rules.push(line.slice(end + 1).trim());
    }
  }
  return tables;
}

/** Our part of what is there: chains by name, and every jump to one of them from another's chain. */
export function ownRules(saved: readonly SavedTable[]): TableRules[] {
  return TABLES.map((table) => {
    const chains = saved.find((entry) => entry.table === table)?.chains ?? [];
    const own = chains.filter((chain) => chain.name.startsWith(CHAIN_PREFIX));
    const jumps = chains
      .filter((chain) => !chain.name.startsWith(CHAIN_PREFIX))
      .flatMap(({ name, rules }) => rules.map((rule) => ({ from: name, to: jumpTarget(rule) })))
      .filter((jump) => jump.to !== '');
    return { table, chains: own.map(({ name, rules }) => ({ name, rules })), jumps };
  });
}

/** The chain of ours that a rule of a built-in chain leads to, or ''. */
export function jumpTarget(rule: string): string {
  const to = /^-j (\S+)$/.exec(rule)?.[1] ?? '';
  return to.startsWith(CHAIN_PREFIX) ? to : '';
}

/** Input for restore that turns `found` (ours) into `wanted`, whatever either is; '' if there is nothing to do. */
export function replaceText(found: readonly TableRules[], wanted: readonly TableRules[]): string {
  const lines: string[] = [];
  for (const table of TABLES) {
    const old = found.find((entry) => entry.table === table);
    const next = wanted.find((entry) => entry.table === table);
    const stale = (old?.chains ?? []).filter(
      ({ name }) => !next?.chains.some((chain) => chain.name === name),
    );
    const changes = [
      // Declaring a chain empties it.
      ...(next?.chains ?? []).map(({ name }) => `:${name} - [0:0]`),
      ...(old?.jumps ?? []).map(({ from, to }) => `-D ${from} -j ${to}`),
      ...stale.map(({ name }) => `-F ${name}`),
      ...(next?.chains ?? []).flatMap(({ name, rules }) => rules.map((rule) => `-A ${name} ${rule}`)),
      ...stale.map(({ name }) => `-X ${name}`),
      ...(next?.jumps ?? []).map(({ from, to }) => `-I ${from} 1 -j ${to}`),
    ];
    if (changes.length > 0) lines.push(`*${table}`, ...changes, 'COMMIT');
  }
  return lines.length === 0 ? '' : `${lines.join('\n')}\n`;
}
