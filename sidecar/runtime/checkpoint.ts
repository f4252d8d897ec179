/**
 * Connection state that outlives the process (architecture.md, "A sidecar restart loses no connection"): an
 * append-only log in a memory-backed directory. A record is on the log before `put` returns, so the segment
 * that needs it may leave.
 *
 *     file    = magic (8) | version (4) | record …
 *     record  = length of body (4) | CRC-32 of length and body (4) | body
 *     body    = 1 (put) or 2 (delete) | length of key (2) | key | record
 *
 * Integers are big-endian. A process that dies in the middle of a write leaves a short tail, which is cut off
 * at the next start. When the log is more than twice what lives in it, it is written anew under another name
 * and renamed, so at every moment one whole log stands under the name. No fsync: the file never reaches a disk.
 *
 * Invariant: `#live` is what `readLog` would read from the file, and `#sizeBytes` the file's size.
 */
import {
  closeSync,
  fchmodSync,
  ftruncateSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statfsSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { TcpcryptError } from '../../errors/catalogue.ts';
import { makeDirectory } from '../../observability/directories.ts';
import type { CheckpointStore } from '../rewriter/types.ts';

const magic = Buffer.from('tcpcrypt');
const FORMAT_VERSION = 1;
const HEADER_BYTES = magic.length + 4;
const FRAME_BYTES = 8;
const BODY_HEAD_BYTES = 3;
const PUT = 1;
const DELETE = 2;
/** Below this a log is not worth writing anew. */
const COMPACT_MIN_BYTES = 64 << 10;

/** `f_type` of statfs(2), linux/magic.h. */
const TMPFS_MAGIC = 0x01021994;
const RAMFS_MAGIC = 0x858458f6;

/** The log of one of `workers` packet threads. */
export function checkpointFile(worker = 0, workers = 1): string {
  return workers === 1 ? 'connections.log' : `connections-${worker + 1}-of-${workers}.log`;
}

/** A log's name by whatever number of packet threads. */
const CHECKPOINT_FILE = /^connections(-\d+-of-\d+)?\.log$/;

/**
 * Which thread a connection belongs to depends on how many there are, so no other number can take back what so many
 * left. Removes the logs of another number where nothing lives in them; throws ERR_TCPCRYPT_STATE_DIR if something does.
 */
export function refuseOtherWorkers(directory: string, workers: number): void {
  const own = new Set(Array.from({ length: workers }, (_, worker) => checkpointFile(worker, workers)));
  const others = readdirSync(directory).filter((name) => CHECKPOINT_FILE.test(name) && !own.has(name));
  for (const name of others) {
    const { size } = readLog(join(directory, name)).live;
    if (size > 0) {
      throw new TcpcryptError(
        'ERR_TCPCRYPT_STATE_DIR',
        `${join(directory, name)} has ${size} connections of another number of workers: start with that number, ` +
          'or remove the file, and they end',
      );
    }
  }
  for (const name of others) rmSync(join(directory, name));
}

/** Makes the directory if it is not there, owner only. Throws ERR_TCPCRYPT_STATE_DIR unless it is in memory. */
export function openStateDirectory(directory: string): void {
  let type: number;
  try {
    makeDirectory(directory, 0o700);
    type = statfsSync(directory).type >>> 0;
  } catch (error) {
    throw new TcpcryptError('ERR_TCPCRYPT_STATE_DIR', `${directory}: ${(error as Error).message}`, {
      cause: error,
    });
  }
  if (type === TMPFS_MAGIC || type === RAMFS_MAGIC) return;
  throw new TcpcryptError(
    'ERR_TCPCRYPT_STATE_DIR',
    `${directory} is not on tmpfs or ramfs (file system type 0x${type.toString(16)}); keys must never reach a disk`,
  );
}

export class CheckpointLog implements CheckpointStore {
  readonly #path: string;
  readonly #live: Map<string, Uint8Array>;
  readonly #report: (error: TcpcryptError) => void;
  #liveBytes = HEADER_BYTES;
  #sizeBytes = 0;
  #fd: number;

  /**
   * Opens the log in `directory` and takes back what it holds. What cannot be read or written is told to
   * `report` and otherwise ignored: a lost checkpoint costs connections at the next restart, a thrown error
   * would cost them now.
   */
  constructor(directory: string, report: (error: TcpcryptError) => void, file = checkpointFile()) {
    this.#path = join(directory, file);
    this.#report = report;
    const { live, problems } = readLog(this.#path);
    this.#live = live;
    for (const [key, record] of live) this.#liveBytes += frameBytes(key, record);
    for (const problem of problems) {
      report(new TcpcryptError('ERR_TCPCRYPT_STATE_INVALID', `${this.#path}: ${problem}`));
    }
    this.#fd = this.#writeAnew();
  }

  records(): ReadonlyMap<string, Uint8Array> {
    return this.#live;
  }

  put(key: string, record: Uint8Array): void {
    const frame = encode(PUT, key, record);
    this.#forget(key);
    this.#live.set(key, Uint8Array.from(record));
    this.#liveBytes += frame.length;
    this.#append(frame);
  }

  delete(key: string): void {
    if (!this.#live.has(key)) return;
    this.#forget(key);
    this.#append(encode(DELETE, key, new Uint8Array(0)));
  }

  close(): void {
    closeSync(this.#fd);
  }

  #forget(key: string): void {
    const record = this.#live.get(key);
    if (record === undefined) return;
    this.#liveBytes -= frameBytes(key, record);
    this.#live.delete(key);
  }

  #append(frame: Buffer): void {
    try {
      if (this.#sizeBytes + frame.length > Math.max(2 * this.#liveBytes, COMPACT_MIN_BYTES)) {
        const old = this.#fd;
        this.#fd = this.#writeAnew();
        closeSync(old);
      } else {
        this.#writeFrame(frame);
      }
    } catch (error) {
      const message = `${this.#path}: ${(error as Error).message}; connections may not survive a restart`;
      this.#report(new TcpcryptError('ERR_TCPCRYPT_STATE_DIR', message, { cause: error }));
    }
  }

  #writeFrame(frame: Buffer): void {
    try {
      writeAll(this.#fd, frame);
      this.#sizeBytes += frame.length;
    } catch (error) {
      // Half a record would hide those after it.
      ftruncateSync(this.#fd, this.#sizeBytes);
      throw error;
    }
  }

  /** Writes what lives to a new file, puts it in the old one's place and returns its descriptor. */
  #writeAnew(): number {
    const temporary = `${this.#path}.new`;
    const fd = openSync(temporary, 'w', 0o600);
    try {
      fchmodSync(fd, 0o600);
      const frames = [header(), ...[...this.#live].map(([key, record]) => encode(PUT, key, record))];
      const bytes = Buffer.concat(frames);
      writeAll(fd, bytes);
      renameSync(temporary, this.#path);
      this.#sizeBytes = bytes.length;
      return fd;
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }
}

/** What lives in a log, and what is wrong with it. */
function readLog(path: string): { live: Map<string, Uint8Array>; problems: string[] } {
  const live = new Map<string, Uint8Array>();
  const problems: string[] = [];
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') problems.push((error as Error).message);
    return { live, problems };
  }
  if (!bytes.subarray(0, HEADER_BYTES).equals(header())) {
    return { live, problems: ['not a checkpoint of this version'] };
  }
  let offset = HEADER_BYTES;
  while (offset < bytes.length) {
    const end = frameEnd(bytes, offset);
    if (end === undefined) {
      problems.push(`cut short at byte ${offset}`);
      break;
    }
    if (!apply(live, bytes, offset, end)) problems.push(`damaged record at byte ${offset}`);
    offset = end;
  }
  return { live, problems };
}

/** Applies one frame if it is whole; false if it is damaged. */
function apply(live: Map<string, Uint8Array>, bytes: Buffer, start: number, end: number): boolean {
  const body = bytes.subarray(start + FRAME_BYTES, end);
  if (bytes.readUInt32BE(start + 4) !== checksum(bytes.subarray(start, start + 4), body)) return false;
  const keyEnd = BODY_HEAD_BYTES + body.readUInt16BE(1);
  if (keyEnd > body.length) return false;
  const key = body.toString('utf8', BODY_HEAD_BYTES, keyEnd);
  live.delete(key);
  if (body[0] !== PUT) return body[0] === DELETE;
  live.set(key, Uint8Array.from(body.subarray(keyEnd)));
  return true;
}

function header(): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES);
  magic.copy(bytes);
  bytes.writeUInt32BE(FORMAT_VERSION, magic.length);
  return bytes;
}

function frameBytes(key: string, record: Uint8Array): number {
  return FRAME_BYTES + BODY_HEAD_BYTES + Buffer.byteLength(key) + record.length;
}

function encode(kind: number, key: string, record: Uint8Array): Buffer {
  const frame = Buffer.alloc(frameBytes(key, record));
  const body = frame.subarray(FRAME_BYTES);
  body[0] = kind;
  body.writeUInt16BE(Buffer.byteLength(key), 1);
  body.write(key, BODY_HEAD_BYTES, 'utf8');
  body.set(record, body.length - record.length);
  frame.writeUInt32BE(body.length, 0);
  frame.writeUInt32BE(checksum(frame.subarray(0, 4), body), 4);
  return frame;
}

function checksum(length: Uint8Array, body: Uint8Array): number {
  return crc32(body, crc32(length));
}

/** Where the frame at `start` ends, or undefined if the file ends before. */
function frameEnd(bytes: Buffer, start: number): number | undefined {
  if (start + FRAME_BYTES + BODY_HEAD_BYTES > bytes.length) return undefined;
  const length = bytes.readUInt32BE(start);
  const end = start + FRAME_BYTES + length;
  return length < BODY_HEAD_BYTES || end > bytes.length ? undefined : end;
}

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let written = 0; written < bytes.length; ) written += writeSync(fd, bytes, written);
}
