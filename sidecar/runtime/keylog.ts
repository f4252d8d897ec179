/**
 * The key log, for debugging: a line for each encrypted connection, from which a capture of its packets can be
 * decrypted (interfaces.md, "Commands"). Whoever sets TCPCRYPT_KEYLOGFILE gives up secrecy; so a warning is
 * logged at start and `tcpcrypt_keylog_enabled` is 1.
 */
import { closeSync, fchmodSync, openSync, writeSync } from 'node:fs';
import { TcpcryptError } from '../../errors/catalogue.ts';

export const keyLogVariable = 'TCPCRYPT_KEYLOGFILE';

export class KeyLog {
  readonly #fd: number;
  readonly #failed: (error: Error) => void;

  /**
   * Opens the file to append to it, for its owner alone. Throws ERR_TCPCRYPT_USAGE if it cannot. A line that
   * cannot be written later is told to `failed`: a full disk is no reason to end a connection.
   */
  constructor(path: string, failed: (error: Error) => void) {
    this.#failed = failed;
    try {
      this.#fd = openSync(path, 'a', 0o600);
      fchmodSync(this.#fd, 0o600);
    } catch (error) {
      throw new TcpcryptError('ERR_TCPCRYPT_USAGE', `${keyLogVariable}: ${(error as Error).message}`);
    }
  }

  /** `opener` is the active opener's address and port. One write, so that lines of several threads stay whole. */
  write(sessionId: Uint8Array, secret: Uint8Array, opener: string, listener: string): void {
    try {
      writeSync(this.#fd, `TCPCRYPT_SECRET ${hex(sessionId)} ${hex(secret)} ${opener} ${listener}\n`);
    } catch (error) {
      this.#failed(error as Error);
    }
  }

  close(): void {
    closeSync(this.#fd);
  }
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
