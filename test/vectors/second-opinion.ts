/**
 * wire.md sections 2, 3, 5 and 7 once more, on noble and from the document alone: nothing here comes from
 * `sidecar/` but the ChaCha20 block and OAEP that its tests wrote by hand.
 */
import { cmac, ctr, ecb, gcm } from '@noble/ciphers/aes.js';
import { x25519 } from '@noble/curves/ed25519.js';
import { p256, p521 } from '@noble/curves/nist.js';
import { expand, extract } from '@noble/hashes/hkdf.js';
import { hmac } from '@noble/hashes/hmac.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { ml_kem768 } from '@noble/post-quantum/ml-kem.js';
import { chachaBlock } from '../../sidecar/crypto/chacha.testing.ts';
import { oaep, power, toBytes, toNumber } from '../../sidecar/crypto/oaep.testing.ts';
import type { InitCase, KeyScheduleCase } from './generate.ts';

export const hex = (value: Uint8Array) => Buffer.from(value).toString('hex');
export const bytes = (text: string) => new Uint8Array(Buffer.from(text, 'hex'));
const joined = (...texts: string[]) => bytes(texts.join(''));
const length16 = (text: string) => (text.length / 2).toString(16).padStart(4, '0');

export const cprf = (key: Uint8Array, tag: number, length = 32) =>
  expand(sha256, key, Uint8Array.of(tag), length);

/** Section 3. */
export const keySchedule = {
  prk(c: KeyScheduleCase): Uint8Array {
    const at = c.confirmOffset === undefined ? undefined : 2 * c.confirmOffset;
    const init2 = at === undefined ? c.INIT2 : c.INIT2.slice(0, at) + '0'.repeat(32) + c.INIT2.slice(at + 32);
    const ikm = joined(...synExchange(c.synBody, c.synAckBody), c.INIT1, init2, c.PMS, c.PSK ?? '');
    return extract(sha256, ikm, bytes(c.N_C));
  },
  resumedMaster(ss: Uint8Array, synBody: string, synAckBody: string): Uint8Array {
    return cprf(extract(sha256, joined(...synExchange(synBody, synAckBody)), ss), 3);
  },
  keyId: (key: Uint8Array) => sha256(new Uint8Array([...Buffer.from('tcpcrypt key id'), ...key])).slice(0, 8),
};

function synExchange(synBody: string, synAckBody: string): string[] {
  return [synBody, synAckBody].flatMap((body) => [length16(body).slice(2), body]);
}

/** Section 3, the messages by their layout. */
export const messages = {
  init1(c: InitCase): string {
    const rest = [
      '2911',
      c.suites.length.toString(16).padStart(4, '0'),
      length16(c.N_C),
      length16(c.PK_C),
      ...c.suites,
      c.N_C,
      '00',
      c.type,
      c.PK_C,
      ...c.init1Tlvs.flatMap(({ type, value }) => [type, length16(value), value]),
    ].join('');
    return (4 + rest.length / 2).toString(16).padStart(8, '0') + rest;
  },
  init2(c: InitCase): string {
    const rest = [
      '8310',
      length16(c.keyMaterial),
      c.suite,
      c.keyMaterial,
      ...c.init2Tlvs.flatMap(({ type, value }) => [type, length16(value), value]),
    ].join('');
    return (4 + rest.length / 2).toString(16).padStart(8, '0') + rest;
  },
};

const nist = { 'P-256': p256, 'P-521': p521 };

/** Section 2: PK_C, key material and PMS from both ends' private values; for RSA the PMS by decryption. */
export function exchanged(c: InitCase): { PK_C: string; keyMaterial: string; PMS: string } {
  const { privateC: C, privateS: S } = c;
  const nonce = `20${S['N_S']}`;
  switch (c.type) {
    case '000210': {
      const kem = ml_kem768.keygen(bytes(C['ML-KEM d | z']));
      const { cipherText, sharedSecret } = ml_kem768.encapsulate(kem.publicKey, bytes(S['ML-KEM m']));
      const dh = overX25519(C['X25519'], S['X25519']);
      return {
        PK_C: hex(kem.publicKey) + dh.shareC,
        keyMaterial: nonce + hex(cipherText) + dh.shareS,
        PMS: hex(sharedSecret) + dh.secret,
      };
    }
    case '000202': {
      const dh = overX25519(C['X25519'], S['X25519']);
      return { PK_C: dh.shareC, keyMaterial: nonce + dh.shareS, PMS: dh.secret };
    }
    case '000200':
    case '000201': {
      const name = c.type === '000200' ? 'P-256' : 'P-521';
      const curve = nist[name];
      const [privateC, privateS] = [bytes(C[name]), bytes(S[name])];
      const shareC = curve.getPublicKey(privateC, false);
      const point = curve.getSharedSecret(privateS, shareC, false);
      return {
        PK_C: hex(shareC),
        keyMaterial: nonce + hex(curve.getPublicKey(privateS, false)),
        PMS: hex(point.subarray(1, 1 + (point.length - 1) / 2)),
      };
    }
    default: {
      const n = toNumber(bytes(c.PK_C));
      const encoded = power(toNumber(bytes(c.keyMaterial)), toNumber(bytes(C['d'])), n);
      return {
        PK_C: c.PK_C,
        keyMaterial: c.keyMaterial,
        PMS: hex(oaep.decode(toBytes(encoded, c.PK_C.length / 2))),
      };
    }
  }
}

function overX25519(scalarC: string, scalarS: string) {
  const shareC = x25519.getPublicKey(bytes(scalarC));
  const shareS = x25519.getPublicKey(bytes(scalarS));
  return {
    shareC: hex(shareC),
    shareS: hex(shareS),
    secret: hex(x25519.getSharedSecret(bytes(scalarS), shareC)),
  };
}

/** Section 5. */
export function asm(id: string, k: Uint8Array) {
  const strong = id === '00000400' || id === '00000500';
  const enc = cprf(k, 6, strong ? 32 : 16);
  const mac = cprf(k, 7);
  const ack = cprf(k, 8, strong ? 32 : 16);
  const aes = (key: Uint8Array, block: Uint8Array) => ecb(key, { disablePadding: true }).encrypt(block);
  const hmac16 = (key: Uint8Array, message: Uint8Array) => hmac(sha256, key, message).slice(0, 16);

  const macs: Record<string, (message: Uint8Array) => Uint8Array> = {
    '00000300': (message) => cmac(message, mac.slice(0, 16)),
    '00000600': (message) =>
      aes(mac.slice(16), gcm(mac.slice(0, 16), new Uint8Array(12), message).encrypt(bytes(''))),
  };
  return {
    enc,
    mac,
    ack,
    crypt(offset: bigint, data: Uint8Array): Uint8Array {
      const size = id === '00000500' ? 64n : 16n;
      const skip = Number(offset % size);
      const stream: number[] = [];
      for (let block = offset / size; stream.length < skip + data.length; block++) {
        const counter = bytes(block.toString(16).padStart(32, '0'));
        stream.push(
          ...(id === '00000500' ? chachaBlock(enc, block) : ctr(enc, counter).encrypt(new Uint8Array(16))),
        );
      }
      return data.map((byte, i) => byte ^ stream[skip + i]);
    },
    tag(ciphertext: Uint8Array, assocData: Uint8Array, ackOffset: bigint): Uint8Array {
      const mac1 = (macs[id] ?? ((message) => hmac16(mac, message)))(
        new Uint8Array([...ciphertext, ...assocData]),
      );
      const ackBlock = bytes(ackOffset.toString(16).padStart(32, '0'));
      const mac2 = id === '00000500' ? hmac16(ack, ackBlock) : aes(ack, ackBlock);
      return mac1.map((byte, i) => byte ^ mac2[i]);
    },
  };
}
