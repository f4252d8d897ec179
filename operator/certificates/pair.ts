/**
 * The webhook's certificate and its renewal, pure but for time and randomness, which are given. A certificate is its own
 * trust anchor: it stands in the webhook configurations' caBundle itself, so there is no authority whose key could be
 * stolen to make others. Renewal never leaves a moment in which the API server does not trust what a replica shows: the
 * next certificate is made, then trusted beside the old one, then shown, then trusted alone.
 */
import { createPrivateKey, webcrypto, X509Certificate } from 'node:crypto';
// @peculiar/x509 asks for decorators' metadata to be there before it is.
import 'reflect-metadata';
import {
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  SubjectAlternativeNameExtension,
  X509CertificateGenerator,
} from '@peculiar/x509';

/** PEM. */
export interface Pair {
  readonly certificate: string;
  readonly key: string;
}

/** What the Secret holds. */
export interface Pairs {
  readonly current: Pair;
  /** Made and to be trusted, not yet shown. */
  readonly next?: Pair;
}

export interface Lifetimes {
  readonly validMs: number;
  /** So long before its end a certificate is replaced. */
  readonly renewBeforeMs: number;
  /** How long the next one is trusted before it is shown: until every API server has seen the caBundle. */
  readonly settleMs: number;
}

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
/** Clocks of a cluster's machines differ. */
const SKEW_MS = 5 * 60_000;
const SERIAL_BYTES = 16;
/** Fixed: a common name has 64 characters at most, and clients look at the alternative names alone. */
const SUBJECT = 'tcpcrypt-webhook';

/** A self-signed server certificate for `names`, valid from a little before `now`. */
export async function makePair(names: readonly string[], now: number, validMs: number): Promise<Pair> {
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
  const serial = webcrypto.getRandomValues(new Uint8Array(SERIAL_BYTES));
  // RFC 5280, section 4.1.2.2: positive and not zero.
  serial[0] = (serial[0]! & 0x7f) | 0x40;
  const certificate = await X509CertificateGenerator.createSelfSigned(
    {
      serialNumber: Buffer.from(serial).toString('hex'),
      name: `CN=${SUBJECT}`,
      notBefore: new Date(now - SKEW_MS),
      notAfter: new Date(now + validMs),
      signingAlgorithm: ALGORITHM,
      keys,
      extensions: [
        new BasicConstraintsExtension(false, undefined, true),
        new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
        new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth]),
        new SubjectAlternativeNameExtension(names.map((value) => ({ type: 'dns', value }))),
      ],
    },
    webcrypto,
  );
  const key = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey);
  return { certificate: certificate.toString('pem'), key: PemConverter.encode(key, 'PRIVATE KEY') };
}

/**
 * What the Secret should hold now, given what it holds; the same object if nothing is to be done. `trustedSince` is when
 * the caBundle was first seen to hold `next`, if it does.
 */
export async function renewed(
  pairs: Pairs | undefined,
  names: readonly string[],
  now: number,
  lifetimes: Lifetimes,
  trustedSince: number | undefined,
): Promise<Pairs> {
  const make = () => makePair(names, now, lifetimes.validMs);
  if (pairs === undefined || !isUsable(pairs.current, names, now)) {
    // Nothing that is shown works: there is nothing to keep up.
    const next = pairs?.next;
    return { current: next !== undefined && isUsable(next, names, now) ? next : await make() };
  }
  const { current, next } = pairs;
  if (next === undefined || !isUsable(next, names, now)) {
    return endOf(current) - now > lifetimes.renewBeforeMs ? pairs : { current, next: await make() };
  }
  const settled = trustedSince !== undefined && now - trustedSince >= lifetimes.settleMs;
  return settled ? { current: next } : pairs;
}

/** What the API server is to trust: PEM, one certificate after the other. */
export function bundleOf({ current, next }: Pairs): string {
  return [current, next]
    .map((pair) => pair?.certificate.trim())
    .filter(Boolean)
    .join('\n')
    .concat('\n');
}

/** Whether it can be shown now: in time, for these names, and the key is its own. */
export function isUsable({ certificate, key }: Pair, names: readonly string[], now: number): boolean {
  try {
    const parsed = new X509Certificate(certificate);
    return (
      parsed.validFromDate.getTime() <= now &&
      now < parsed.validToDate.getTime() &&
      names.every((name) => parsed.checkHost(name, { subject: 'never' }) !== undefined) &&
      parsed.checkPrivateKey(createPrivateKey(key))
    );
  } catch {
    return false;
  }
}

/** When a certificate ends, in milliseconds. */
export function endOf({ certificate }: Pair): number {
  return new X509Certificate(certificate).validToDate.getTime();
}
