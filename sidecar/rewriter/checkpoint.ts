/**
 * What of a connection outlives the process: keys, ISNs, deltas and generations, no more (architecture.md,
 * "A sidecar restart loses no connection"). A record is JSON with a version; bytes are hex.
 */
import type { Suite } from '../crypto/asm.ts';
import { keyExchanges } from '../crypto/key-exchange.ts';
import { Generations } from '../protocol/generations.ts';
import { parsePacket } from '../wire/packet.ts';
import { Connection, type Secured } from './connection.ts';

const VERSION = 2;

const toHex = (bytes: Uint8Array | undefined) =>
  bytes ? Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex') : '';
const fromHex = (text: string) => new Uint8Array(Buffer.from(text, 'hex'));

/** Numbers and flags that are kept as they are, in this order: another one is another version. */
const PLAIN_FIELDS = [
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
  'cutsHere',
  'mssLocal',
  'mssRemote',
  'window',
  'tsEcho',
  'kernelAck',
  'kernelAcked',
  'verified',
  'decided',
  'peerAppSupport',
  'bytesIn',
  'bytesOut',
  'reason',
  'plainNext',
  'peerPlainSeen',
  'declined',
  'finished',
] as const;

export function encode(c: Connection): Uint8Array {
  const record = {
    version: VERSION,
    fields: PLAIN_FIELDS.map((name) => c[name]),
    key: Buffer.from(c.key, 'latin1').toString('hex'),
    tsVal: c.tsVal ?? -1,
    template: toHex(c.template?.bytes),
    synAckBody: toHex(c.synAckBody),
    initSent: toHex(c.initSent),
    initSeen:
      c.init2Head === undefined ? toHex(c.initSeen) : Buffer.from(c.init2Head, 'latin1').toString('hex'),
    ...(c.secured && { secured: encodeSecured(c.secured) }),
  };
  return Buffer.from(JSON.stringify(record));
}

function encodeSecured({ generations, sessionId, ...rest }: Secured) {
  const record = generations.record();
  const live = record.live.map((each) => ({ ...each, masterKey: toHex(each.masterKey) }));
  return { ...rest, sessionId, generations: { ...record, live } };
}

type SecuredRecord = ReturnType<typeof encodeSecured>;
type Suites = ReadonlyMap<number, Suite>;

function decodeSecured(
  { generations, sessionId, ...rest }: SecuredRecord,
  suites: Suites,
): Secured | undefined {
  const suite = suites.get(rest.suite);
  if (!suite || !keyExchanges.has(rest.keyExchange)) return undefined;
  const live = generations.live.map((each) => ({ ...each, masterKey: fromHex(each.masterKey) }));
  const restored = Generations.restore(suite, rest.sessionRole, { ...generations, live });
  const { aggregate } = suite;
  return { ...rest, aggregate, keyId: rest.keyId, sessionId, generations: restored };
}

/** JSON has null for what is undefined. */
function fieldsOf(values: readonly unknown[]) {
  const fields = Object.fromEntries(PLAIN_FIELDS.map((name, i) => [name, values[i] ?? undefined]));
  return fields as Pick<Connection, (typeof PLAIN_FIELDS)[number]>;
}

/** The connection of a record, or undefined: another version's, or damaged. */
export function decode(bytes: Uint8Array, suites: Suites): Connection | undefined {
  try {
    const record = JSON.parse(Buffer.from(bytes).toString());
    const template = parsePacket(fromHex(record.template));
    if (record.version !== VERSION || typeof template === 'string') return undefined;
    const secured = record.secured && decodeSecured(record.secured, suites);
    const fields = fieldsOf(record.fields);
    if (!secured && fields.phase !== 'plain') return undefined;
    const key = Buffer.from(record.key, 'hex').toString('latin1');
    const c = Object.assign(new Connection({ ...fields, key }, fields.phase), fields, {
      tsVal: record.tsVal < 0 ? undefined : record.tsVal,
      template,
      synAckBody: fromHex(record.synAckBody),
      initSent: record.initSent ? fromHex(record.initSent) : undefined,
      initSeen: record.initSeen ? fromHex(record.initSeen) : undefined,
      secured,
    });
    if (c.phase === 'encrypting') c.endSetup();
    return c;
  } catch {
    return undefined;
  }
}
