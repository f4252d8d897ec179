/**
 * What of a connection outlives the process: keys, ISNs, deltas and generations, no more (architecture.md,
 * "A sidecar restart loses no connection"). A record is JSON with a version; bytes are hex.
 */
import { suites } from '../crypto/asm.ts';
import { keyExchanges } from '../crypto/key-exchange.ts';
import { Generations, type GenerationsRecord } from '../protocol/generations.ts';
import { parsePacket } from '../wire/packet.ts';
import { type Connection, newConnection } from './connection.ts';

const VERSION = 1;

const toHex = (bytes: Uint8Array | undefined) => (bytes ? Buffer.from(bytes).toString('hex') : '');
const fromHex = (text: string) => new Uint8Array(Buffer.from(text, 'hex'));

/** Numbers and flags that are kept as they are. */
const PLAIN_FIELDS = [
  'key',
  'local',
  'remote',
  'peer',
  'active',
  'decision',
  'openedAt',
  'phase',
  'isnLocal',
  'isnCandidates',
  'isnRemote',
  'txDelta',
  'rxDelta',
  'txNext',
  'txAcked',
  'rxNext',
  'maxSegmentBytes',
  'mssLocal',
  'mssRemote',
  'window',
  'tsEcho',
  'kernelAck',
  'kernelNext',
  'kernelAcked',
  'verified',
  'decided',
  'peerAppSupport',
  'bytesIn',
  'bytesOut',
] as const;

export function encode(c: Connection): Uint8Array {
  const secured = c.secured!;
  const { live, ...rest } = secured.generations.record();
  const record = {
    version: VERSION,
    ...Object.fromEntries(PLAIN_FIELDS.map((name) => [name, c[name]])),
    key: Buffer.from(c.key, 'latin1').toString('hex'),
    tsVal: c.tsVal ?? -1,
    template: toHex(c.template?.bytes),
    initSent: toHex(c.initSent),
    initSeen: toHex(c.initSeen),
    secured: {
      sessionRole: secured.sessionRole,
      sessionId: toHex(secured.sessionId),
      keyExchange: secured.keyExchange,
      suite: secured.suite,
      authenticated: secured.authenticated,
      keyId: secured.keyId ?? '',
      handshake: secured.handshake,
      generations: { ...rest, live: live.map((each) => ({ ...each, masterKey: toHex(each.masterKey) })) },
    },
  };
  return Buffer.from(JSON.stringify(record));
}

/** The connection of a record, or undefined: another version's, or damaged. */
export function decode(bytes: Uint8Array): Connection | undefined {
  try {
    const record = JSON.parse(Buffer.from(bytes).toString());
    if (record.version !== VERSION) return undefined;
    const { secured } = record;
    const suite = suites.get(secured.suite);
    const template = parsePacket(fromHex(record.template));
    if (!suite || !keyExchanges.has(secured.keyExchange) || typeof template === 'string') return undefined;
    const c = newConnection(record, record.phase);
    for (const name of PLAIN_FIELDS) (c as unknown as Record<string, unknown>)[name] = record[name];
    const live = secured.generations.live.map((each: { masterKey: string }) => ({
      ...each,
      masterKey: fromHex(each.masterKey),
    }));
    const generations: GenerationsRecord = { ...secured.generations, live };
    const { sessionRole, keyExchange, authenticated, handshake } = secured;
    return {
      ...c,
      key: Buffer.from(record.key, 'hex').toString('latin1'),
      tsVal: record.tsVal < 0 ? undefined : record.tsVal,
      template,
      initSent: record.initSent ? fromHex(record.initSent) : undefined,
      initSeen: record.initSeen ? fromHex(record.initSeen) : undefined,
      secured: {
        generations: Generations.restore(suite, sessionRole, generations),
        sessionRole,
        sessionId: fromHex(secured.sessionId),
        keyExchange,
        suite: suite.id,
        authenticated,
        keyId: secured.keyId || undefined,
        handshake,
      },
    };
  } catch {
    return undefined;
  }
}
