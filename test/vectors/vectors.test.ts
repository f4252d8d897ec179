/** The recorded vectors against the implementation and against a second opinion; README.md describes them. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { deriveKeys, suites } from '../../sidecar/crypto/asm.ts';
import { derandomizedKeyExchanges as keyExchanges } from '../../sidecar/crypto/mlkem.testing.ts';
import { nativeSuites } from '../../sidecar/nfqueue-bindings/suites.ts';
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
import { decodeInit1, decodeInit2 } from '../../sidecar/wire/init.ts';
import { generate, type InitCase, read } from './generate.ts';
import * as second from './second-opinion.ts';
import { secondOpinion } from './super-segments.ts';

const { bytes, hex, cprf } = second;
const init = read('init');
const schedule = read('key-schedule');
const asm = read('asm');
const superSegments = read('super-segments');

function exchangeOf(type: string) {
  return keyExchanges.get(Number.parseInt(type, 16))!;
}

/** Draws a case's private values in their order. */
function drawsOf(values: Record<string, string>) {
  const rest = Object.values(values);
  return () => bytes(rest.shift()!);
}

test('the files hold what generate.ts makes', () => {
  const recorded = { init, 'key-schedule': schedule, asm, 'super-segments': superSegments };
  assert.deepEqual(JSON.parse(JSON.stringify(generate(init))), recorded);
});

test('every key exchange and every suite has vectors', () => {
  const types = new Set(init.cases.map(({ type }) => Number.parseInt(type, 16)));
  assert.deepEqual([...types].sort(), [...keyExchanges.keys()].sort());
  const ids = asm.suites
    .flatMap(({ id, aggregateId }) => [id, aggregateId])
    .map((id) => Number.parseInt(id, 16));
  assert.deepEqual(ids.sort(), [...suites.keys()].sort());
});

describe('init.json', () => {
  for (const c of init.cases) {
    test(`${c.name}: INIT1 and INIT2`, () => {
      assert.equal(c.INIT1, second.messages.init1(c));
      assert.equal(c.INIT2, second.messages.init2(c));
      const tlvs = (list: InitCase['init1Tlvs']) =>
        list.map(({ type, value }) => ({ type: Number.parseInt(type, 16), value: bytes(value) }));
      assert.deepEqual(decodeInit1(bytes(c.INIT1)), {
        suites: c.suites.map((id) => Number.parseInt(id, 16)),
        nonce: bytes(c.N_C),
        keyExchange: Number.parseInt(c.type, 16),
        publicKey: bytes(c.PK_C),
        tlvs: tlvs(c.init1Tlvs),
      });
      assert.deepEqual(decodeInit2(bytes(c.INIT2)), {
        suite: Number.parseInt(c.suite, 16),
        keyMaterial: bytes(c.keyMaterial),
        tlvs: tlvs(c.init2Tlvs),
      });
    });

    test(`${c.name}: PK_C, key material and PMS`, () => {
      const { PK_C, keyMaterial, PMS } = c;
      assert.deepEqual(second.exchanged(c), { PK_C, keyMaterial, PMS });
      if (c.type === '000100') return; // a recorded RSA key cannot be drawn again; rsa.test.ts decrypts
      const offer = exchangeOf(c.type).generate(drawsOf(c.privateC));
      assert.equal(hex(offer.publicKey), PK_C);
      const answer = exchangeOf(c.type).respond(offer.publicKey, drawsOf(c.privateS));
      assert.ok(answer !== 'invalid');
      assert.equal(hex(answer.keyMaterial), keyMaterial);
      assert.equal(hex(answer.pms), PMS);
      const pms = offer.complete(bytes(keyMaterial));
      assert.ok(pms !== 'invalid');
      assert.equal(hex(pms), PMS);
    });
  }

  for (const { why, type, PK_C, keyMaterial, case: name } of init.invalid) {
    test(`refused: ${exchangeOf(type).name} ${PK_C === undefined ? 'key material' : 'PK_C'}, ${why}`, () => {
      if (PK_C !== undefined) {
        assert.equal(
          exchangeOf(type).respond(bytes(PK_C), (length) => new Uint8Array(length).fill(1)),
          'invalid',
        );
        return;
      }
      const from = init.cases.find((c) => c.name === name)!;
      const random = type === '000100' ? (length: number) => new Uint8Array(length) : drawsOf(from.privateC);
      assert.equal(exchangeOf(type).generate(random).complete(bytes(keyMaterial!)), 'invalid');
    });
  }
});

describe('key-schedule.json', () => {
  for (const c of schedule.cases) {
    test(`${c.name}: the implementation`, () => {
      const prk = sessionSecret({
        synBody: bytes(c.synBody),
        synAckBody: bytes(c.synAckBody),
        init1: bytes(c.INIT1),
        init2: bytes(c.INIT2),
        pms: bytes(c.PMS),
        nonceC: bytes(c.N_C),
        ...(c.PSK === undefined ? {} : { psk: bytes(c.PSK) }),
        ...(c.confirmOffset === undefined ? {} : { confirmOffset: c.confirmOffset }),
      });
      assert.equal(hex(prk), c.PRK);
      if (c.confirm !== undefined) assert.equal(hex(confirmation(prk)), c.confirm);
      let ss = prk;
      for (const [i, expected] of c.ss.entries()) {
        assert.equal(hex(ss), expected);
        assert.equal(hex(sessionId(ss)), c.SID[i]);
        for (const r of c.resumed.filter((resumed) => resumed.i === i)) {
          const mk = masterKey(ss, { synBody: bytes(r.synBody), synAckBody: bytes(r.synAckBody) });
          assert.equal(hex(mk), r.mk);
          assert.equal(hex(directionKeys(mk).cs), r.k_cs);
          assert.equal(hex(directionKeys(mk).sc), r.k_sc);
        }
        ss = nextSecret(ss);
      }
      let mk = masterKey(prk);
      for (const [j, expected] of c.mk.entries()) {
        assert.equal(hex(mk), expected);
        assert.equal(hex(directionKeys(mk).cs), c.k_cs[j]);
        assert.equal(hex(directionKeys(mk).sc), c.k_sc[j]);
        mk = nextMasterKey(mk);
      }
    });

    test(`${c.name}: a second opinion`, () => {
      assert.equal(hex(second.keySchedule.prk(c)), c.PRK);
      assert.equal(c.ss[0], c.PRK);
      if (c.confirm !== undefined) {
        assert.equal(hex(cprf(bytes(c.PRK), 9)).slice(0, 32), c.confirm);
        const at = 2 * c.confirmOffset!;
        assert.equal(c.INIT2.slice(at, at + 32), c.confirm);
        assert.equal(c.INIT2.slice(at - 16, at), hex(second.keySchedule.keyId(bytes(c.PSK!))));
      }
      for (const [i, ss] of c.ss.entries()) {
        if (i > 0) assert.equal(hex(cprf(bytes(c.ss[i - 1]), 1)), ss);
        assert.equal(hex(cprf(bytes(ss), 2)), c.SID[i]);
      }
      for (const [j, mk] of c.mk.entries()) {
        assert.equal(hex(cprf(bytes(j === 0 ? c.PRK : c.mk[j - 1]), 3)), mk);
        assert.equal(hex(cprf(bytes(mk), 4)), c.k_cs[j]);
        assert.equal(hex(cprf(bytes(mk), 5)), c.k_sc[j]);
      }
      for (const r of c.resumed) {
        assert.equal(r.synBody, `84${c.SID[r.i].slice(0, 18)}`);
        const mk = second.keySchedule.resumedMaster(bytes(c.ss[r.i]), r.synBody, r.synAckBody);
        assert.equal(hex(mk), r.mk);
        assert.equal(hex(cprf(mk, 4)), r.k_cs);
        assert.equal(hex(cprf(mk, 5)), r.k_sc);
      }
    });
  }

  test('key ids', () => {
    for (const { key, keyId } of schedule.keyIds) {
      assert.equal(hex(trustKeyId(bytes(key))), keyId);
      assert.equal(hex(second.keySchedule.keyId(bytes(key))), keyId);
    }
  });
});

describe('asm.json', () => {
  for (const s of asm.suites) {
    const other = second.asm(s.id, bytes(s.k));

    test(`${s.name}: keys`, () => {
      assert.equal(s.k, schedule.cases[0].k_cs[0]);
      assert.deepEqual([hex(other.enc), hex(other.mac), hex(other.ack)], [s.k_enc, s.k_mac, s.k_ack]);
      const keys = deriveKeys(Number.parseInt(s.id, 16), bytes(s.k));
      assert.deepEqual([hex(keys.enc), hex(keys.mac), hex(keys.ack)], [s.k_enc, s.k_mac, s.k_ack]);
    });

    for (const v of s.segments) {
      test(`${s.name}: offset 0x${v.offset}, ${v.plaintext.length / 2} bytes`, () => {
        const [plaintext, ciphertext, assocData] = [v.plaintext, v.ciphertext, v.assocData].map(bytes);
        const [offset, ackOffset] = [v.offset, v.ackOffset].map((text) => BigInt(`0x${text}`));
        for (const id of [s.id, s.aggregateId]) {
          for (const set of [suites, nativeSuites]) {
            const implementation = set.get(Number.parseInt(id, 16))!.asm(bytes(s.k));
            const data = plaintext.slice();
            implementation.crypt(Number(offset), data);
            assert.equal(hex(data), v.ciphertext);
            implementation.crypt(Number(offset), data);
            assert.equal(hex(data), v.plaintext);
            assert.equal(hex(implementation.tag(ciphertext, assocData, Number(ackOffset))), v.tag);
          }
        }
        assert.equal(hex(other.crypt(offset, plaintext)), v.ciphertext);
        assert.equal(hex(other.tag(ciphertext, assocData, ackOffset)), v.tag);
      });
    }
  }
});

describe('super-segments.json', () => {
  for (const { id, name, k, cases } of superSegments.suites) {
    for (const c of cases) {
      test(`${name}: ${c.name}`, () => {
        assert.equal(secondOpinion(id, k, c), c.plaintext);
        assert.equal(secondOpinion(id, k, { ...c, segments: c.segments.toReversed() }), c.plaintext);
        const wrong = c.segments.map((text, i) =>
          i === 0 ? `${text.slice(0, -1)}${text.endsWith('0') ? 1 : 0}` : text,
        );
        assert.equal(secondOpinion(id, k, { ...c, segments: wrong }), 'the MAC is wrong');
      });
    }
  }

  test('every aggregate suite, one segment and many', () => {
    const ids = superSegments.suites.map(({ id }) => Number.parseInt(id, 16));
    assert.deepEqual(
      ids,
      [...suites.values()].filter(({ aggregate }) => aggregate).map(({ id }) => id),
    );
    assert.deepEqual(
      superSegments.suites[0]!.cases.map(({ segments }) => segments.length),
      [1, 4, 3, 3, 2],
    );
  });
});
