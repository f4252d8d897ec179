/** The commands' end of the local API. */
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { catalogue, type ErrorCode, TcpcryptError } from '../../errors/catalogue.ts';

const TIMEOUT_MS = 10_000;

/** GETs a path over the Unix socket. Throws the problem's code, or ERR_TCPCRYPT_API_UNREACHABLE. */
export async function apiGet(socketPath: string, path: string): Promise<string> {
  let status: number | undefined;
  let body = '';
  try {
    const call = request({ socketPath, path, timeout: TIMEOUT_MS, agent: false }).end();
    call.once('timeout', () => call.destroy(new Error('no answer in time')));
    const [response] = (await once(call, 'response')) as [IncomingMessage];
    status = response.statusCode;
    for await (const chunk of response.setEncoding('utf8')) body += chunk;
  } catch (error) {
    const message = `${socketPath}: ${(error as Error).message}`;
    throw new TcpcryptError('ERR_TCPCRYPT_API_UNREACHABLE', message, { cause: error });
  }
  if (status === 200) return body;
  throw (
    problem(body) ?? new TcpcryptError('ERR_TCPCRYPT_API_UNREACHABLE', `${socketPath}: HTTP status ${status}`)
  );
}

function problem(body: string): TcpcryptError | undefined {
  try {
    const { code, detail } = JSON.parse(body) as { code: string; detail: string };
    return code in catalogue ? new TcpcryptError(code as ErrorCode, detail) : undefined;
  } catch {
    return undefined;
  }
}
