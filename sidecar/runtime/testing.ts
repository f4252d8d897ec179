/** What the tests of this folder share. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { createLogger, type Logger } from '../../observability/log.ts';
import type { ConnectionInfo } from '../rewriter/types.ts';

export function temporaryDirectory(t: TestContext, parent = tmpdir()): string {
  const path = mkdtempSync(join(parent, 'tcpcrypt-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** A logger that keeps its lines. */
export async function recordingLogger(): Promise<{ log: Logger; lines: Record<string, unknown>[] }> {
  const log = await createLogger('silent');
  const lines: Record<string, unknown>[] = [];
  const child = Object.create(log) as Logger;
  for (const level of ['debug', 'info', 'warn', 'error'] as const) {
    child[level] = (fields: object, msg?: string) => void lines.push({ level, msg, ...fields });
  }
  return { log: child, lines };
}

export const encrypted: ConnectionInfo = {
  local: '10.0.0.1:40000',
  remote: '10.0.0.2:443',
  active: true,
  role: 'C',
  state: 'encrypted',
  keyExchange: 'X25519MLKEM768',
  suite: 'AES-128-CTR-GMAC',
  handshake: 'full',
  authenticated: true,
  sessionId: 'ab'.repeat(32),
  peerAppSupport: false,
  openedAtMs: 0,
  bytesIn: 1536,
  bytesOut: 10,
};

export const plain: ConnectionInfo = {
  local: '[fd00::1]:80',
  remote: '[fd00::2]:40001',
  active: false,
  role: 'S',
  state: 'plain',
  reason: 'peer_unsupported',
  authenticated: false,
  peerAppSupport: false,
  openedAtMs: 0,
  bytesIn: 0,
  bytesOut: 0,
};
