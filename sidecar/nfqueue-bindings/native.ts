/** Loads the addon and says what it offers. Its functions check every argument themselves. */

import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { type ErrorCode, TcpcryptError } from '../../errors/catalogue.ts';

/** Arguments are positional, so that no getter runs between a check and its use. */
interface NativeQueue {
  readonly ring: ArrayBuffer;
  readonly descriptors: ArrayBuffer;
  readonly acceptances: ArrayBuffer;
  readonly wakeFd: number;
  receive(timeoutMs: number): number;
  verdict(id: number, verdict: number, mark: number | undefined, payload: Uint8Array | undefined): void;
  acceptAll(): void;
  flush(): void;
  wake(): void;
  stats(): { received: number; overruns: number; verdictErrors: number; malformed: number };
  close(): void;
}

interface NativePoller {
  readonly state: ArrayBuffer;
  next(maxWaitMs: number, dueMs: number): void;
}

interface NativeRawSender {
  send(packet: Uint8Array, ifindex?: number): number;
  close(): void;
}

/** A private key of X25519 or ML-KEM-768. */
export interface NativePrivateKey {
  agree(peer: Uint8Array, secret: Uint8Array): boolean;
  destroy(): void;
}

interface Native {
  Queue: new (
    number: number,
    gso: boolean,
    failOpen: boolean,
    maxLength: number,
    copyRangeBytes: number,
    batch: number,
    receiveBufferBytes: number,
    netns: string | undefined,
  ) => NativeQueue;
  Poller: new (...queues: readonly NativeQueue[]) => NativePoller;
  RawSender: new (mark: number, netns: string | undefined) => NativeRawSender;
  /** Returns the transform's number, by which the others of this thread know it until it is destroyed. */
  makeTransform(suite: number, directionKey: Uint8Array): number;
  destroyTransform(transform: number): void;
  /** Those of this thread that live. */
  countTransforms(): number;
  crypt(transform: number, offset: number, data: Uint8Array): void;
  tag(transform: number, ciphertext: Uint8Array, assoc: Uint8Array, ackOffset: number, out: Uint8Array): void;
  /** `segment`: 104 bytes, as suites.ts lays them out. */
  seal(bytes: Uint8Array, segment: Uint8Array): number;
  open(bytes: Uint8Array, segment: Uint8Array): number;
  PrivateKey: new (isMlKem768: boolean, random: Uint8Array, publicKey: Uint8Array) => NativePrivateKey;
  encapsulate(encapsulationKey: Uint8Array, ciphertext: Uint8Array, secret: Uint8Array): boolean;
  hmac(key: Uint8Array, message: Uint8Array, out: Uint8Array): void;
  wake(fd: number): boolean;
  checksum(buffer: Uint8Array, start: number, end: number, initial?: number): number;
  completeChecksums(packet: Uint8Array): boolean;
  sockDiag(family: number, netns: string | undefined): Buffer;
  parseForTest(buffer: Uint8Array): number[];
}

/** Another build of the addon, for the memory tests. */
const override = process.env['TCPCRYPT_NATIVE_ADDON'];
const file = override ?? fileURLToPath(new URL('./build/nfqueue.node', import.meta.url));
if (!existsSync(file)) {
  throw new TcpcryptError(
    'ERR_TCPCRYPT_INTERNAL',
    `the native addon is not built: ${file} (scripts/build-native)`,
  );
}

export const native = createRequire(import.meta.url)(file) as Native;
export type { Native, NativePoller, NativeQueue, NativeRawSender };

/** Runs `call`; an error of the addon that has a code becomes one of the catalogue's. */
export function coded<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (typeof code !== 'string' || !code.startsWith('ERR_TCPCRYPT_')) throw error;
    throw new TcpcryptError(code as ErrorCode, (error as Error).message, { cause: error });
  }
}
