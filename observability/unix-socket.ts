/** Listening on a path: a socket file that a dead process left is replaced, a living one's is not. */
import { once } from 'node:events';
import { chmodSync, lstatSync, unlinkSync } from 'node:fs';
import type { Server } from 'node:net';
import { createConnection } from 'node:net';
import { dirname } from 'node:path';
import { TcpcryptError } from '../errors/catalogue.ts';
import { makeDirectory } from './directories.ts';

/** Makes the folder if need be. Throws ERR_TCPCRYPT_USAGE if another process serves the path, or it cannot be had. */
export async function listenOnPath(server: Server, path: string, mode: number): Promise<void> {
  try {
    makeDirectory(dirname(path), 0o755);
    if (isSocket(path)) {
      if (await answers(path)) {
        throw new TcpcryptError('ERR_TCPCRYPT_USAGE', `another process listens on ${path}`);
      }
      unlinkSync(path);
    }
    // Nobody gets in between here and chmod.
    const before = process.umask(0o177);
    try {
      server.listen(path);
    } finally {
      process.umask(before);
    }
    await once(server, 'listening');
    chmodSync(path, mode);
  } catch (error) {
    if (error instanceof TcpcryptError) throw error;
    throw new TcpcryptError('ERR_TCPCRYPT_USAGE', `cannot listen on ${path}: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

function isSocket(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isSocket() ?? false;
}

async function answers(path: string): Promise<boolean> {
  const socket = createConnection(path);
  try {
    await once(socket, 'connect');
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ECONNREFUSED';
  } finally {
    socket.destroy();
  }
}
