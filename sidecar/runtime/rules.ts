/**
 * The packet-filter rules together with the settings they rely on (conntrack, segment sizes). What those were before
 * is kept in a file, so that whoever removes the rules, in whatever process, puts it back.
 */
import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { TcpcryptError } from '../../errors/catalogue.ts';
import { ownRules, save, VARIANTS } from '../../netfilter/iptables.ts';
import { assertSame, install, remove, verify } from '../../netfilter/namespace.ts';
import type { RuleOptions } from '../../netfilter/rules.ts';
import { surroundings } from '../../netfilter/surroundings.ts';
import { applySettings, type PreviousSettings, restoreSettings } from '../../netfilter/sysctls.ts';
import { makeDirectory } from '../../observability/directories.ts';
import { errorFields, type Logger } from '../../observability/log.ts';

const RECORD_FOLDER = '/run/tcpcrypt';

/** Throws as `install` of netfilter/ does; ERR_TCPCRYPT_RULES_INSTALL also where another mesh is at work. */
export async function installRules(options: RuleOptions, log: Logger): Promise<void> {
  const { otherMesh, mayUntrack } = await surroundings();
  if (otherMesh !== undefined) {
    const message = `${otherMesh} encrypts the connections of this namespace already; it is left alone`;
    throw new TcpcryptError('ERR_TCPCRYPT_RULES_INSTALL', message);
  }
  const again = await areThere();
  // A record without rules is another namespace's: their numbers are given out anew.
  if (!again) rmSync(recordFile(), { force: true });
  await install({ ...options, untrackOthers: mayUntrack });
  const { previous, refused } = await applySettings();
  // Said when the rules first came.
  if (refused.length > 0 && !again)
    log.warn({ refused }, 'some settings of the namespace could not be changed');
  record(previous, log);
}

/**
 * For a pod whose rules are another's to put in (the CNI plugin's, the node agent's) and who may not have been there.
 * Any that are there stay, whatever they are. Never throws: without rules the connections are plain, and they flow.
 */
export async function ensureRules(options: RuleOptions, log: Logger): Promise<void> {
  try {
    if (await areThere()) return;
    await installRules(options, log);
    log.warn('there were no packet-filter rules: connections from before now stay plain');
  } catch (error) {
    log.error(errorFields(error), 'there are no packet-filter rules: every connection is plain');
  }
}

/** Throws ERR_TCPCRYPT_RULES_DIFFER, whose message has a line for each difference. */
export async function verifyRules(options: RuleOptions): Promise<void> {
  const { mayUntrack } = await surroundings();
  assertSame(await verify({ ...options, untrackOthers: mayUntrack }));
}

export async function removeRules(): Promise<void> {
  await remove();
  const previous = recorded();
  if (previous === undefined) return;
  await restoreSettings({}, previous);
  rmSync(recordFile(), { force: true });
}

async function areThere(): Promise<boolean> {
  for (const variant of VARIANTS) {
    for (const family of [4, 6] as const) {
      if (ownRules(await save({}, family, variant)).some(({ chains }) => chains.length > 0)) return true;
    }
  }
  return false;
}

/** One for each network namespace: its inode names it. */
function recordFile(): string {
  return join(RECORD_FOLDER, `settings-${statSync('/proc/self/ns/net').ino}.json`);
}

/** The first record stays: a second install finds our own values. */
function record(previous: PreviousSettings, log: Logger): void {
  if (recorded() !== undefined) return;
  try {
    makeDirectory(RECORD_FOLDER, 0o755);
    writeFileSync(recordFile(), JSON.stringify(previous), { mode: 0o600 });
  } catch (error) {
    log.debug({ error: (error as Error).message }, 'previous settings could not be kept');
  }
}

function recorded(): PreviousSettings | undefined {
  try {
    return JSON.parse(readFileSync(recordFile(), 'utf8'));
  } catch {
    return undefined;
  }
}
