/**
 * A sidecar's control socket, reached under the kubelet's folder of the pod. What lies in that folder is the pod's to
 * choose, so nothing in it is followed: the socket is opened as it is, and connected to through that descriptor, or a
 * link could lead our keys and policies into another pod. What comes back is read with a limit.
 */
import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { TcpcryptError } from '../../errors/catalogue.ts';
import { CONTROL_SOCKET_FILE, STATE_VOLUME } from '../../kubernetes/names.ts';
import type { Listed } from './negative-lists.ts';

/** open(2). Node.js does not name it; the number is that of x86-64 and of ARM64. */
const O_PATH = 0o10000000;
const MAX_ANSWER_BYTES = 1 << 20;
const TIMEOUT_MS = 2000;

/** Throws ERR_TCPCRYPT_API_UNREACHABLE, or the sidecar's refusal under the code that it names. */
export class SidecarClient {
  readonly #podsFolder: string;

  /** `kubeletDir`: usually /var/lib/kubelet. */
  constructor(kubeletDir: string) {
    this.#podsFolder = join(kubeletDir, 'pods');
  }

  async metrics(podUid: string): Promise<string> {
    return await this.#call(podUid, 'GET', '/v1/metrics');
  }

  /** The layout of the rules that it serves. */
  async ruleLayout(podUid: string): Promise<number> {
    const { ruleLayout } = asObject(await this.#call(podUid, 'GET', '/v1/version'));
    if (typeof ruleLayout !== 'number') throw unreachable(podUid, 'it states no rule layout');
    return ruleLayout;
  }

  /** Returns the generation that is in force now. */
  async setPolicy(podUid: string, policy: string): Promise<string> {
    const { generation } = asObject(await this.#call(podUid, 'PUT', '/v1/policy', policy));
    return String(generation).slice(0, 64);
  }

  /** Gives what the other pods found; returns what it says it has on its own list, unchecked. */
  async shareNegativeList(podUid: string, entries: readonly Listed[]): Promise<unknown> {
    const body = JSON.stringify({ entries });
    return asObject(await this.#call(podUid, 'PUT', '/v1/negative-list', body))['entries'];
  }

  async #call(podUid: string, method: 'GET' | 'PUT', path: string, body = ''): Promise<string> {
    const socket = this.#open(podUid);
    try {
      const { status, text } = await exchange(`/proc/self/fd/${socket}`, method, path, body);
      if (status === 200) return text;
      throw refusal(podUid, status, text);
    } catch (error) {
      if (error instanceof TcpcryptError) throw error;
      throw unreachable(podUid, (error as Error).message);
    } finally {
      closeSync(socket);
    }
  }

  #open(podUid: string): number {
    // A mirror pod's is a hash; what else comes is no path.
    if (!/^[a-zA-Z0-9-]{1,64}$/.test(podUid)) throw unreachable(podUid, 'its UID is none');
    const folder = join(this.#podsFolder, podUid, 'volumes', 'kubernetes.io~empty-dir', STATE_VOLUME);
    const descriptors: number[] = [];
    try {
      const directory = openSync(folder, O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW);
      descriptors.push(directory);
      const socket = openSync(
        `/proc/self/fd/${directory}/${CONTROL_SOCKET_FILE}`,
        O_PATH | constants.O_NOFOLLOW,
      );
      if (fstatSync(socket).isSocket()) return socket;
      descriptors.push(socket);
      throw unreachable(podUid, 'its control socket is none');
    } catch (error) {
      if (error instanceof TcpcryptError) throw error;
      throw unreachable(podUid, (error as NodeJS.ErrnoException).code ?? (error as Error).message);
    } finally {
      for (const descriptor of descriptors) closeSync(descriptor);
    }
  }
}

function exchange(
  socketPath: string,
  method: string,
  path: string,
  body: string,
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const headers =
      body === '' ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const call = request({ socketPath, method, path, headers, agent: false, signal }, (response) => {
      const chunks: Buffer[] = [];
      let length = 0;
      response.on('data', (chunk: Buffer) => {
        length += chunk.length;
        chunks.push(chunk);
        if (length > MAX_ANSWER_BYTES) call.destroy(new Error('the answer is too long'));
      });
      response.on('end', () => {
        resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') });
      });
      response.on('error', reject);
    });
    call.on('error', reject);
    call.end(body);
  });
}

function refusal(podUid: string, status: number, text: string): TcpcryptError {
  const { code, detail } = asObject(text);
  if (code === 'ERR_TCPCRYPT_POLICY_INVALID') {
    return new TcpcryptError(code, `pod ${podUid}: ${String(detail).slice(0, 500)}`);
  }
  return unreachable(podUid, `HTTP status ${status}`);
}

function asObject(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

function unreachable(podUid: string, why: string): TcpcryptError {
  return new TcpcryptError('ERR_TCPCRYPT_API_UNREACHABLE', `the sidecar of pod ${podUid}: ${why}`);
}
