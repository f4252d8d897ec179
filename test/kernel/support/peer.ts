/**
 * A program that runs in a namespace: the two ends of byte-checked transfers.
 *
 *     peer.ts server '{"port":8080}'
 *     peer.ts client '{"host":"10.77.2.2","port":8080,"up":1000,"down":1000}'
 *
 * The client says how much it will send and wants to get. Each end checks each byte; the server's last 32
 * bytes come only when all of the client's were right, so a client that ends well proves both directions.
 * The server writes `listening` when it does; the client one line of JSON, a `ClientResult`.
 */
import { Buffer } from 'node:buffer';
import { connect, createServer, type Socket } from 'node:net';
import { firstDifference, patternAt } from './pattern.ts';

export interface ServerOptions {
  readonly port: number;
  /** Bytes that the server sends before it has heard anything. */
  readonly greeting?: number;
  readonly host?: string;
  /** Half-closed so long: the server's last bytes come so much later than the client's. */
  readonly verdictDelayMs?: number;
}

export interface ClientOptions {
  readonly host: string;
  readonly port: number;
  readonly up: number;
  readonly down: number;
  readonly greeting?: number;
  /** Connections open at once, all with the same transfer. Default 1. */
  readonly connections?: number;
  /** Opens one after the other, so many milliseconds apart; each waits in the middle until all are open. */
  readonly openEveryMs?: number;
  /** Silence in the middle of the upload. */
  readonly idleMs?: number;
  /** Shares the upload into writes of so many bytes, with a pause between two. */
  readonly writeBytes?: number;
  /** Default 1. */
  readonly pauseMs?: number;
  readonly localPort?: number;
  readonly timeoutMs?: number;
}

export interface ConnectionResult {
  readonly ok: boolean;
  readonly error?: string;
  readonly local: string;
  readonly receivedBytes: number;
  readonly elapsedMs: number;
}

export interface ClientResult {
  readonly ok: boolean;
  readonly connections: readonly ConnectionResult[];
}

const HEADER = 64;
const VERDICT = Buffer.from('every byte came as it was sent.\n');

/** Writes `bytes` of the pattern with back-pressure; `pause` is awaited between pieces. */
async function send(
  socket: Socket,
  bytes: number,
  piece = 65_521,
  pause?: (sent: number) => Promise<void>,
): Promise<void> {
  for (let sent = 0; sent < bytes && !socket.destroyed; ) {
    const part = patternAt(sent, Math.min(piece, bytes - sent));
    sent += part.length;
    if (!socket.write(part)) await drained(socket);
    await pause?.(sent);
  }
}

function drained(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      socket.off('drain', done).off('close', done);
      resolve();
    };
    socket.on('drain', done).on('close', done);
  });
}

export function serve(options: ServerOptions): void {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    let header = Buffer.alloc(0);
    let received = 0;
    let up = 0;
    let started: Promise<void> | undefined;
    socket.on('error', () => {});
    if (options.greeting) void send(socket, options.greeting);
    socket.on('data', (chunk: Buffer) => {
      if (!started) {
        header = Buffer.concat([header, chunk]);
        if (header.length < HEADER) return;
        const fields = /^transfer up=(\d+) down=(\d+)/.exec(header.toString('latin1'));
        if (!fields) return void socket.resetAndDestroy();
        up = Number(fields[1]);
        started = send(socket, Number(fields[2]));
        chunk = header.subarray(HEADER);
      }
      const wrong = firstDifference(chunk, received);
      received += chunk.length;
      if (wrong >= 0 || received > up) {
        process.stderr.write(`server: wrong byte at ${wrong} of ${up}\n`);
        socket.resetAndDestroy();
      }
    });
    socket.on('end', () => {
      if (!started || received !== up) return void socket.resetAndDestroy();
      void started.then(() => sleep(options.verdictDelayMs ?? 0)).then(() => socket.end(VERDICT));
    });
  });
  server.listen({ port: options.port, host: options.host ?? '::', backlog: 4096 }, () =>
    process.stdout.write('listening\n'),
  );
}

/** `halfway` is awaited in the middle of the upload. */
function transferOnce(options: ClientOptions, halfway: () => Promise<void>): Promise<ConnectionResult> {
  const begun = performance.now();
  return new Promise((resolve) => {
    const { up, down, greeting = 0 } = options;
    const total = greeting + down + VERDICT.length;
    let received = 0;
    let tail = Buffer.alloc(0);
    let local = '';
    const done = (error?: string): void => {
      clearTimeout(timer);
      socket.destroy();
      const result = {
        ok: error === undefined,
        local,
        receivedBytes: received,
        elapsedMs: performance.now() - begun,
      };
      resolve(error === undefined ? result : { ...result, error });
    };
    const socket = connect({
      host: options.host,
      port: options.port,
      noDelay: true,
      allowHalfOpen: true,
      ...(options.localPort === undefined ? {} : { localPort: options.localPort }),
    });
    const timer = setTimeout(
      () => done(`no end after ${options.timeoutMs ?? 30_000} ms`),
      options.timeoutMs ?? 30_000,
    );
    const upload = async (): Promise<void> => {
      socket.write(`transfer up=${up} down=${down}`.padEnd(HEADER));
      let idled = false;
      await send(socket, up, options.writeBytes, async (sent) => {
        if (options.writeBytes) await sleep(options.pauseMs ?? 1);
        if (!idled && sent >= up / 2) {
          idled = true;
          await halfway();
        }
      });
      socket.end();
    };
    socket.once('connect', () => {
      local =
        socket.localFamily === 'IPv6'
          ? `[${socket.localAddress}]:${socket.localPort}`
          : `${socket.localAddress}:${socket.localPort}`;
      if (!greeting) void upload();
    });
    socket.on('data', (chunk: Buffer) => {
      const before = received;
      received += chunk.length;
      if (greeting && before < greeting && received >= greeting) void upload();
      const patterned = chunk.subarray(0, Math.max(0, greeting + down - before));
      const first = patterned.subarray(0, Math.max(0, greeting - before));
      const rest = patterned.subarray(first.length);
      if (firstDifference(first, before) >= 0 || firstDifference(rest, before + first.length - greeting) >= 0)
        return done(`wrong byte after ${before} of ${total}`);
      tail = Buffer.concat([tail, chunk.subarray(patterned.length)]);
    });
    socket.once('end', () =>
      done(tail.equals(VERDICT) ? undefined : `ended after ${received} of ${total} bytes`),
    );
    socket.once('error', (error) => done(error.message));
    socket.once('close', () => done(`closed after ${received} of ${total} bytes`));
  });
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function runClient(options: ClientOptions): Promise<void> {
  const { connections: count = 1, openEveryMs = 0, idleMs = 0 } = options;
  let waiting = 0;
  let allOpen = (): void => {};
  const gate = new Promise<void>((resolve) => {
    allOpen = resolve;
  });
  const halfway = async (): Promise<void> => {
    if (++waiting === count) allOpen();
    if (openEveryMs > 0) await gate;
    await sleep(idleMs);
  };
  const running: Promise<ConnectionResult>[] = [];
  for (let i = 0; i < count; i++) {
    running.push(transferOnce(options, halfway));
    if (openEveryMs > 0) await sleep(openEveryMs);
  }
  const connections = await Promise.all(running);
  const result: ClientResult = { ok: connections.every((each) => each.ok), connections };
  process.stdout.write(`${JSON.stringify(result)}\n`);
}

if (import.meta.main) {
  const [role, json] = process.argv.slice(2);
  if (role === 'server') serve(JSON.parse(json));
  else await runClient(JSON.parse(json));
}
