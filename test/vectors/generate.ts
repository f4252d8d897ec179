/**
 * Writes the recorded vectors beside this file; README.md says what they hold. Every input is drawn from SHAKE256
 * over a label, so a second run gives the same bytes. The exception is RSA, whose keys and padding OpenSSL draws
 * itself: what is recorded is kept. Run: sh scripts/node test/vectors/generate.ts
 */
import { createHash, generateKeyPairSync } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { deriveKeys, suites } from '../../sidecar/crypto/asm.ts';
import type { KeyExchange, Random } from '../../sidecar/crypto/key-exchange.ts';
import { derandomizedKeyExchanges as keyExchanges } from '../../sidecar/crypto/mlkem.testing.ts';
import {
  confirmation,
  directionKeys,
  masterKey,
  nextMasterKey,
  nextSecret,
  sessionId,
  sessionSecret,
  trustKeyId,
} from '../../sidecar/protocol/key-schedule.ts';
import { encodeInit1, encodeInit2, type Tlv, tlvValueOffset } from '../../sidecar/wire/init.ts';
import { type SuperSegmentSuite, superSegmentVectors } from './super-segments.ts';

export interface InitCase {
  name: string;
  /** The 3-byte specifier. */
  type: string;
  suites: string[];
  suite: string;
  N_C: string;
  /** C's private values in the order in which the table of README.md lists them. */
  privateC: Record<string, string>;
  PK_C: string;
  init1Tlvs: { type: string; value: string }[];
  INIT1: string;
  privateS: Record<string, string>;
  keyMaterial: string;
  init2Tlvs: { type: string; value: string }[];
  INIT2: string;
  PMS: string;
}

export interface InvalidCase {
  why: string;
  type: string;
  /** PK_C that S must refuse, or key material that C, with that case's private values, must refuse. */
  PK_C?: string;
  keyMaterial?: string;
  case?: string;
}

export interface KeyScheduleCase {
  name: string;
  synBody: string;
  synAckBody: string;
  N_C: string;
  INIT1: string;
  INIT2: string;
  /** Where in INIT2 the 16 bytes of confirm are; they count as zeros in IKM. */
  confirmOffset?: number;
  PMS: string;
  PSK?: string;
  PRK: string;
  confirm?: string;
  ss: string[];
  SID: string[];
  mk: string[];
  k_cs: string[];
  k_sc: string[];
  resumed: { i: number; synBody: string; synAckBody: string; mk: string; k_cs: string; k_sc: string }[];
}

export interface AsmSuite {
  id: string;
  aggregateId: string;
  name: string;
  k: string;
  k_enc: string;
  k_mac: string;
  k_ack: string;
  segments: {
    offset: string;
    plaintext: string;
    ciphertext: string;
    assocData: string;
    ackOffset: string;
    tag: string;
  }[];
}

export interface Vectors {
  init: { source: string; cases: InitCase[]; invalid: InvalidCase[] };
  'key-schedule': {
    source: string;
    cases: KeyScheduleCase[];
    keyIds: { key: string; keyId: string }[];
  };
  asm: { source: string; suites: AsmSuite[] };
  'super-segments': { source: string; suites: SuperSegmentSuite[] };
}

const SOURCE = 'tcpcrypt for Kubernetes, wire.md; see README.md beside this file';
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const bytes = (text: string) => new Uint8Array(Buffer.from(text, 'hex'));
const word = (value: number, digits: number) => value.toString(16).padStart(digits, '0');
const pathOf = (name: string) => new URL(`${name}.json`, import.meta.url);

/** `length` bytes that depend on the label alone. */
function labelled(label: string, length: number): Uint8Array {
  return new Uint8Array(createHash('shake256', { outputLength: length }).update(label).digest());
}

/** A source that gives named values in turn. */
function inTurn(values: readonly Uint8Array[]): Random {
  let next = 0;
  return (length) => {
    const value = values[next++];
    if (value?.length !== length) throw new Error(`draw ${next} asks for ${length} bytes`);
    return value.slice(); // the callee may overwrite it
  };
}

/** What each end draws, by exchange. */
const drawn: Record<string, { C: [string, number][]; S: [string, number][] }> = {
  X25519MLKEM768: {
    C: [
      ['ML-KEM d | z', 64],
      ['X25519', 32],
    ],
    S: [
      ['N_S', 32],
      ['ML-KEM m', 32],
      ['X25519', 32],
    ],
  },
  X25519: {
    C: [['X25519', 32]],
    S: [
      ['N_S', 32],
      ['X25519', 32],
    ],
  },
  'P-256': {
    C: [['P-256', 32]],
    S: [
      ['N_S', 32],
      ['P-256', 32],
    ],
  },
  'P-521': {
    C: [['P-521', 66]],
    S: [
      ['N_S', 32],
      ['P-521', 66],
    ],
  },
};

function draw(label: string, plan: [string, number][]): Record<string, string> {
  const values: Record<string, string> = {};
  for (const [name, length] of plan) {
    const value = labelled(`${label}/${name}`, length);
    if (name === 'P-521') value[0] &= 1;
    values[name] = hex(value);
  }
  return values;
}

interface Setup {
  name: string;
  exchange: string;
  suites: number[];
  suite: number;
  synBody: string;
  synAckBody: string;
  /** Trust-domain keys of C, newest first, and which of them S holds. */
  keys?: { held: string[]; chosen: number };
}

const TRUST_KEYS = ['trust key 1', 'trust key 2'].map((label) => hex(labelled(label, 32)));
const ALL_SUITES = [0x601, 0x600, 0x101, 0x401, 0x501, 0x100, 0x400, 0x500, 0x300];

const setups: Setup[] = [
  {
    name: 'X25519MLKEM768',
    exchange: 'X25519MLKEM768',
    suites: ALL_SUITES,
    suite: 0x601,
    synBody: '',
    synAckBody: '410e000210000202000200000201',
  },
  {
    name: 'X25519',
    exchange: 'X25519',
    suites: [0x100],
    suite: 0x100,
    synBody: '01',
    synAckBody: '4105000202',
  },
  {
    name: 'P-256, app-support on both sides',
    exchange: 'P-256',
    suites: [0x600, 0x100],
    suite: 0x600,
    synBody: '02',
    synAckBody: '4208000200000201',
  },
  { name: 'P-521', exchange: 'P-521', suites: [0x300], suite: 0x300, synBody: '', synAckBody: '4105000201' },
  {
    name: 'RSA-OAEP',
    exchange: 'RSA-OAEP',
    suites: [0x400, 0x500],
    suite: 0x500,
    synBody: '',
    synAckBody: '4105000100',
  },
  {
    name: 'X25519MLKEM768 in a trust domain',
    exchange: 'X25519MLKEM768',
    suites: ALL_SUITES,
    suite: 0x600,
    synBody: '',
    synAckBody: '410b000210000202000200',
    keys: { held: TRUST_KEYS, chosen: 1 },
  },
  {
    name: 'X25519 in a trust domain',
    exchange: 'X25519',
    suites: ALL_SUITES,
    suite: 0x500,
    synBody: '',
    synAckBody: '410b000210000202000200',
    keys: { held: [TRUST_KEYS[0]], chosen: 0 },
  },
];

interface Exchanged {
  privateC: Record<string, string>;
  PK_C: Uint8Array;
  privateS: Record<string, string>;
  keyMaterial: Uint8Array;
  pms: Uint8Array;
}

function exchanged(setup: Setup, exchange: KeyExchange): Exchanged {
  const plan = drawn[setup.exchange];
  const privateC = draw(`${setup.name}/C`, plan.C);
  const privateS = draw(`${setup.name}/S`, plan.S);
  const offer = exchange.generate(inTurn(Object.values(privateC).map(bytes)));
  const answer = exchange.respond(offer.publicKey, inTurn(Object.values(privateS).map(bytes)));
  if (answer === 'invalid') throw new Error(`${setup.name}: refused its own key`);
  return { privateC, PK_C: offer.publicKey, privateS, keyMaterial: answer.keyMaterial, pms: answer.pms };
}

function exchangedByRsa(exchange: KeyExchange, kept: InitCase | undefined): Exchanged {
  if (kept !== undefined) {
    return {
      privateC: kept.privateC,
      PK_C: bytes(kept.PK_C),
      privateS: kept.privateS,
      keyMaterial: bytes(kept.keyMaterial),
      pms: bytes(kept.PMS),
    };
  }
  const jwk = generateKeyPairSync('rsa', { modulusLength: 2048, publicExponent: 3 }).privateKey.export({
    format: 'jwk',
  });
  const n = new Uint8Array(Buffer.from(jwk.n!, 'base64url'));
  const secret = labelled('RSA-OAEP/S/R_S', 48);
  const answer = exchange.respond(n, () => secret.slice());
  if (answer === 'invalid') throw new Error('RSA refused its own key');
  return {
    privateC: { d: hex(Buffer.from(jwk.d!, 'base64url')) },
    PK_C: n,
    privateS: { R_S: hex(secret) },
    keyMaterial: answer.keyMaterial,
    pms: answer.pms,
  };
}

function makeCase(
  setup: Setup,
  recorded: Vectors['init'] | undefined,
): { init: InitCase; schedule: KeyScheduleCase } {
  const exchange = [...keyExchanges.values()].find(({ name }) => name === setup.exchange)!;
  const kept = recorded?.cases.find(({ name }) => name === setup.name);
  const parts = setup.exchange === 'RSA-OAEP' ? exchangedByRsa(exchange, kept) : exchanged(setup, exchange);
  const { privateC, PK_C, privateS, keyMaterial, pms } = parts;
  const nonceC = labelled(`${setup.name}/N_C`, 32);
  const psk = setup.keys && bytes(setup.keys.held[setup.keys.chosen]);

  const keyIds = setup.keys?.held.map((key) => trustKeyId(bytes(key))) ?? [];
  const init1Tlvs: Tlv[] = setup.keys ? [{ type: 1, value: new Uint8Array(Buffer.concat(keyIds)) }] : [];
  const init1 = encodeInit1({
    suites: setup.suites,
    nonce: nonceC,
    keyExchange: exchange.id,
    publicKey: PK_C,
    tlvs: init1Tlvs,
  });

  const noConfirm = new Uint8Array(16);
  const init2Tlvs: Tlv[] = psk
    ? [{ type: 1, value: new Uint8Array(Buffer.concat([trustKeyId(psk), noConfirm])) }]
    : [];
  const init2 = encodeInit2({ suite: setup.suite, keyMaterial, tlvs: init2Tlvs });
  const confirmOffset = psk && tlvValueOffset(init2, 2, 1)! + 8;
  const prk = sessionSecret({
    synBody: bytes(setup.synBody),
    synAckBody: bytes(setup.synAckBody),
    init1,
    init2,
    pms,
    nonceC,
    ...(psk ? { psk } : {}),
  });
  if (confirmOffset !== undefined) {
    init2.set(confirmation(prk), confirmOffset);
    init2Tlvs[0].value.set(confirmation(prk), 8);
  }

  const tlv = ({ type, value }: Tlv) => ({ type: word(type, 2), value: hex(value) });
  return {
    init: {
      name: setup.name,
      type: word(exchange.id, 6),
      suites: setup.suites.map((id) => word(id, 8)),
      suite: word(setup.suite, 8),
      N_C: hex(nonceC),
      privateC,
      PK_C: hex(PK_C),
      init1Tlvs: init1Tlvs.map(tlv),
      INIT1: hex(init1),
      privateS,
      keyMaterial: hex(keyMaterial),
      init2Tlvs: init2Tlvs.map(tlv),
      INIT2: hex(init2),
      PMS: hex(pms),
    },
    schedule: {
      name: setup.name,
      synBody: setup.synBody,
      synAckBody: setup.synAckBody,
      N_C: hex(nonceC),
      INIT1: hex(init1),
      INIT2: hex(init2),
      ...(confirmOffset === undefined ? {} : { confirmOffset }),
      PMS: hex(pms),
      ...(psk ? { PSK: hex(psk) } : {}),
      PRK: hex(prk),
      ...(psk ? { confirm: hex(confirmation(prk)) } : {}),
      ...following(prk),
    },
  };
}

/** Three secrets of the chain, three generations of the first connection, two resumed connections. */
function following(prk: Uint8Array) {
  const ss = [prk, nextSecret(prk)];
  ss.push(nextSecret(ss[1]));
  const mk = [masterKey(prk)];
  mk.push(nextMasterKey(mk[0]));
  mk.push(nextMasterKey(mk[1]));
  const keys = mk.map(directionKeys);
  const resumed = [1, 2].map((i) => {
    const synBody = `84${hex(sessionId(ss[i]).subarray(0, 9))}`;
    const synAckBody = i === 1 ? '05' : '06';
    const master = masterKey(ss[i], { synBody: bytes(synBody), synAckBody: bytes(synAckBody) });
    const { cs, sc } = directionKeys(master);
    return { i, synBody, synAckBody, mk: hex(master), k_cs: hex(cs), k_sc: hex(sc) };
  });
  return {
    ss: ss.map(hex),
    SID: ss.map((secret) => hex(sessionId(secret))),
    mk: mk.map(hex),
    k_cs: keys.map(({ cs }) => hex(cs)),
    k_sc: keys.map(({ sc }) => hex(sc)),
    resumed,
  };
}

/** Public keys and key material that must be refused. */
function invalidCases(cases: readonly InitCase[]): InvalidCase[] {
  const named = (name: string) => cases.find((entry) => entry.name === name)!;
  const list: InvalidCase[] = [];
  const refuse = (why: string, from: string, change: (value: Uint8Array) => Uint8Array) => {
    const { type, name, PK_C, keyMaterial } = named(from);
    list.push({ why, type, PK_C: hex(change(bytes(PK_C))) });
    const head = type === '000100' ? 0 : 33;
    const material = bytes(keyMaterial);
    if (type === '000210' && why.startsWith('ML-KEM')) return;
    const changed = change(material.subarray(head));
    list.push({
      why,
      type,
      keyMaterial: hex(Buffer.concat([material.subarray(0, head), changed])),
      case: name,
    });
  };
  const flipped = (value: Uint8Array, at: number) => {
    const out = value.slice();
    out[at] ^= 1;
    return out;
  };
  const first = (value: Uint8Array, byte: number) => {
    const out = value.slice();
    out[0] = byte;
    return out;
  };
  const curves: [string, number][] = [
    ['P-256, app-support on both sides', 32],
    ['P-521', 66],
  ];
  for (const [name, field] of curves) {
    refuse('not on the curve: y changed', name, (share) => flipped(share, 2 * field));
    refuse('compressed form', name, (share) => first(share.slice(0, 1 + field), 2 + (share[2 * field] & 1)));
    refuse('hybrid form', name, (share) => first(share, 6 + (share[2 * field] & 1)));
    refuse('the point at infinity', name, () => Uint8Array.of(0));
    refuse('a byte short', name, (share) => share.slice(0, -1));
    refuse('a byte long', name, (share) => new Uint8Array([...share, 0]));
  }
  refuse('the neutral element: all-zero output', 'X25519', (share) => share.fill(0));
  refuse('a point of order 8: all-zero output', 'X25519', () =>
    bytes('e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800'),
  );
  refuse('a byte short', 'X25519', (share) => share.slice(0, -1));
  refuse('X25519 part: all-zero output', 'X25519MLKEM768', (value) => value.fill(0, value.length - 32));
  refuse('a byte short', 'X25519MLKEM768', (value) => value.slice(0, -1));
  refuse('ML-KEM part: the first coefficient is q = 3329', 'X25519MLKEM768', (value) => {
    value[0] = 0x01;
    value[1] = (value[1] & 0xf0) | 0x0d;
    return value;
  });
  for (const [why, byte] of [
    ['len(N_S) is 31', 31],
    ['len(N_S) is 0', 0],
  ] as const) {
    const { type, name, keyMaterial } = named('X25519');
    list.push({ why, type, keyMaterial: hex(first(bytes(keyMaterial), byte)), case: name });
  }
  refuse('RSA: a leading zero', 'RSA-OAEP', (value) => new Uint8Array([0, ...value]));
  const rsa = named('RSA-OAEP');
  list.push({ why: 'RSA: an even modulus', type: rsa.type, PK_C: hex(flipped(bytes(rsa.PK_C), 255)) });
  list.push({ why: 'RSA: 2040 bits', type: rsa.type, PK_C: hex(bytes(rsa.PK_C).subarray(1)) });
  list.push({ why: 'RSA: 8 bits more than 4096', type: rsa.type, PK_C: 'ff'.repeat(513) });
  list.push({
    why: 'RSA: a ciphertext changed',
    type: rsa.type,
    keyMaterial: hex(flipped(bytes(rsa.keyMaterial), 100)),
    case: rsa.name,
  });
  return list;
}

/** Offsets where a block, a counter's word or a float's precision ends, and lengths around a block. */
const SEGMENTS: [offset: number, length: number, ackOffset: number][] = [
  [1, 0, 1],
  [1, 1, 1],
  [1, 15, 0],
  [16, 16, 1],
  [17, 63, 2 ** 32 - 1],
  [63, 66, 2 ** 32],
  [1_000_001, 1448, 4711],
  [2 ** 32 - 5, 40, 2 ** 33 + 1],
  [2 ** 36 - 8, 48, 2 ** 36],
  [2 ** 38 - 70, 200, 2 ** 40 + 3],
  [2 ** 45 + 7, 33, 2 ** 48],
  [2 ** 53 - 128, 100, 2 ** 53],
];

/** Assoc-Data as wire.md section 5 has it, for options NOP NOP timestamps MAC (contents zeroed). */
function assocData(offset: number, length: number): Uint8Array {
  const options = bytes(`0101080a${'00'.repeat(8)}fd14544d${'00'.repeat(16)}`);
  const headerBytes = 20 + options.length;
  const head = Buffer.alloc(20);
  head.writeUInt16BE(0x8000, 0);
  head.writeUInt16BE(headerBytes + length, 2);
  head[4] = (headerBytes / 4) << 4;
  head[5] = 0x18;
  head.writeUInt16BE(501, 6);
  head.writeBigUInt64BE(BigInt(offset), 12);
  return new Uint8Array(Buffer.concat([head, options]));
}

function asmVectors(directionKey: Uint8Array): AsmSuite[] {
  const plainSuites = [...suites.values()].filter(({ aggregate }) => !aggregate);
  return plainSuites.map((suite) => {
    const asm = suite.asm(directionKey);
    const keys = deriveKeys(suite.id, directionKey);
    return {
      id: word(suite.id, 8),
      aggregateId: word(suite.id + 1, 8),
      name: suite.name,
      k: hex(directionKey),
      k_enc: hex(keys.enc),
      k_mac: hex(keys.mac),
      k_ack: hex(keys.ack),
      segments: SEGMENTS.map(([offset, length, ackOffset]) => {
        const plaintext = labelled(`plaintext/${offset}`, length);
        const ciphertext = plaintext.slice();
        asm.crypt(offset, ciphertext);
        const assoc = assocData(offset, length);
        return {
          offset: word(offset, 16),
          plaintext: hex(plaintext),
          ciphertext: hex(ciphertext),
          assocData: hex(assoc),
          ackOffset: word(ackOffset, 16),
          tag: hex(asm.tag(ciphertext, assoc, ackOffset)),
        };
      }),
    };
  });
}

/** All vectors; `recorded` is init.json as it is, for what cannot be made twice. */
export function generate(recorded?: Vectors['init']): Vectors {
  const cases = setups.map((setup) => makeCase(setup, recorded));
  const inits = cases.map(({ init }) => init);
  const schedules = cases.map(({ schedule }) => schedule);
  return {
    init: { source: SOURCE, cases: inits, invalid: invalidCases(inits) },
    'key-schedule': {
      source: SOURCE,
      cases: schedules,
      keyIds: TRUST_KEYS.map((key) => ({ key, keyId: hex(trustKeyId(bytes(key))) })),
    },
    asm: { source: SOURCE, suites: asmVectors(bytes(schedules[0].k_cs[0])) },
    'super-segments': { source: SOURCE, suites: superSegmentVectors(bytes(schedules[0].k_cs[0])) },
  };
}

/** The recorded file of that name. */
export function read<Name extends keyof Vectors>(name: Name): Vectors[Name] {
  return JSON.parse(readFileSync(pathOf(name), 'utf8'));
}

if (import.meta.main) {
  const recorded = existsSync(pathOf('init')) ? read('init') : undefined;
  for (const [name, content] of Object.entries(generate(recorded))) {
    writeFileSync(pathOf(name), `${JSON.stringify(content, null, 2)}\n`);
  }
}
