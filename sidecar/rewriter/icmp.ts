/**
 * ICMP errors that quote a segment of ours, translated into the kernel's numbers: path MTU discovery works
 * through the rewriter. wire.md section 4, "Encrypting".
 */
import { parseIcmpError, rewriteIcmpError } from '../wire/icmp.ts';
import { initTimeout } from './c-mode.ts';
import type { Connection } from './connection.ts';
import { extend, seqAt, toKernel } from './offsets.ts';
import { fallBack } from './plain.ts';
import type { Rewriter } from './rewriter.ts';

/** The most that we add to a segment: MAC and REKEY aligned, with timestamps and without (wire.md section 4). */
export const OVERHEAD_BYTES = { timestamps: 28, none: 32 } as const;

export const overheadOf = (c: Connection): number =>
  c.tsVal === undefined ? OVERHEAD_BYTES.none : OVERHEAD_BYTES.timestamps;

/** The least path MTU that Linux believes: below it the rewriter splits by itself. */
const LEAST_MTU = { 4: 552, 6: 1280 } as const;

/** Whether an ICMP error is from the host that it is for. */
function isOwn(bytes: Uint8Array, version: 4 | 6): boolean {
  const [source, destination, end] = version === 4 ? [12, 16, 20] : [8, 24, 40];
  return Buffer.compare(bytes.subarray(source, destination), bytes.subarray(destination, end)) === 0;
}

export function receiveIcmp(rw: Rewriter, bytes: Uint8Array, token: number): void {
  const error = parseIcmpError(bytes);
  const c = error && rw.table.get(error.quoted.flowKey);
  if (!error || !c || c.phase === 'plain' || c.phase === 'syn_sent' || c.phase === 'listen')
    return rw.pass(token);
  const headerBytes = error.version === 4 ? 20 : 40;
  if (c.phase === 'c_mode' || c.phase === 's_mode') {
    const offset = extend(error.quoted.seq, c.isnLocal, 1);
    if (offset !== 1 || !c.initSent) return rw.pass(token);
    c.icmpQuotedInit = true;
    rw.drop(token, 'icmp_init');
    // INIT1 does not fit the path: waiting for its timer would only delay the connection.
    if (error.mtu !== undefined && c.initiation) {
      if (c.decision.mode === 'Strict') fallBack(rw, c, 'init_timeout');
      else initTimeout(rw, c);
    }
    return;
  }
  const offset = extend(error.quoted.seq, c.isnLocal, c.txNext);
  // RFC 5927: only an error about what is in flight counts.
  if (offset < c.txAcked - 1 || offset >= c.txNext) return rw.drop(token, 'icmp_numbers');
  const seq = seqAt(c.isnLocal, Math.max(0, toKernel(offset, c.txDelta)));
  if (error.mtu === undefined) return rw.passBytes(token, rewriteIcmpError(bytes, error, { seq }));
  const least = LEAST_MTU[error.version];
  const mtu = Math.max(error.mtu - overheadOf(c), 68);
  const known = rw.paths.get(c.peer, rw.now);
  if (known && error.mtu <= known.toldBytes && isOwn(bytes, error.version)) {
    // Our own kernel, about what it was told: what we have added to leaves by other means from now on.
    c.path = known;
    return rw.drop(token, 'icmp_own');
  }
  c.path = rw.paths.note(c.peer, Math.max(mtu, least), Math.max(error.mtu, headerBytes + 88), rw.now);
  if (mtu < least) {
    c.maxSegmentBytes = Math.max(88, Math.min(c.maxSegmentBytes, error.mtu - headerBytes));
    c.cutsHere = true;
  }
  rw.passBytes(
    token,
    rewriteIcmpError(bytes, error, { seq, mtu: error.version === 6 ? Math.max(mtu, least) : mtu }),
  );
}
