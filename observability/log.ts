/**
 * What every process here shows of itself: the log (this file), metrics and health (metrics-server.ts), and the limits
 * and error documents of its HTTP servers (http.ts). Shared by the data plane, the node agent and the operator; imports
 * only `errors/`.
 *
 * The one logger: JSON lines on standard error, pretty on a terminal. Written synchronously, so that the last
 * line before an exit is never lost; only the main thread of a process logs.
 * No secret is ever given to it: keys and session secrets have no field here.
 */
import { isatty } from 'node:tty';
import { type Logger, pino, stdTimeFunctions } from 'pino';
import { TcpcryptError } from '../errors/catalogue.ts';

export type { Logger };

export const logLevels = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;
export type LogLevel = (typeof logLevels)[number];

const STDERR = 2;

export async function createLogger(level: LogLevel): Promise<Logger> {
  const options = {
    level,
    base: null,
    timestamp: stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
  };
  if (!isatty(STDERR)) return pino(options, pino.destination({ fd: STDERR, sync: true }));
  const { default: pretty } = await import('pino-pretty');
  return pino(options, pretty({ destination: STDERR, sync: true, translateTime: 'SYS:HH:MM:ss.l' }));
}

/** An error as log fields: its code and its sentence; the stack only for what is a bug. */
export function errorFields(error: unknown): { code: string; error: string; stack?: string } {
  if (error instanceof TcpcryptError) return { code: error.code, error: error.message };
  const code = 'ERR_TCPCRYPT_INTERNAL';
  if (!(error instanceof Error)) return { code, error: String(error) };
  return { code, error: error.message, ...(error.stack === undefined ? {} : { stack: error.stack }) };
}
