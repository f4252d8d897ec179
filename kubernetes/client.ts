/**
 * What whoever asks the API server needs: the way there, a limit of time, and errors that can be read. Imports only
 * `errors/`.
 */
import { ApiException, KubeConfig } from '@kubernetes/client-node';
import { TcpcryptError } from '../errors/catalogue.ts';

/** `kubeconfig`: a file; without it the pod's service account. Throws ERR_TCPCRYPT_KUBERNETES. */
export function loadConfig(kubeconfig: string | undefined): KubeConfig {
  const config = new KubeConfig();
  try {
    if (kubeconfig === undefined) config.loadFromCluster();
    else config.loadFromFile(kubeconfig);
  } catch (error) {
    throw new TcpcryptError(
      'ERR_TCPCRYPT_KUBERNETES',
      `no way to the API server: ${(error as Error).message}`,
    );
  }
  return config;
}

/** The client itself waits for an answer for minutes. Rejects after `ms`; the request may still be carried out. */
export async function within<T>(ms: number, request: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    late.reject(new TcpcryptError('ERR_TCPCRYPT_KUBERNETES', `no answer within ${ms} ms`));
  }, ms);
  try {
    return await Promise.race([request, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** The HTTP status of a refusal by the API server. */
export function statusOf(error: unknown): number | undefined {
  return error instanceof ApiException ? error.code : undefined;
}

/** An error for the log: the API server's own sentence instead of a dump of the answer. */
export function kubernetesError(error: unknown): TcpcryptError {
  if (error instanceof TcpcryptError) return error;
  const message = error instanceof ApiException ? `${error.code}: ${reason(error)}` : rootCause(error);
  return new TcpcryptError('ERR_TCPCRYPT_KUBERNETES', message, { cause: error });
}

function reason({ body, message }: ApiException<unknown>): string {
  try {
    const status: unknown = typeof body === 'string' ? JSON.parse(body) : body;
    return String((status as { message?: unknown }).message ?? message);
  } catch {
    return message;
  }
}

/** fetch says "fetch failed"; what failed is the cause. */
function rootCause(error: unknown): string {
  let deepest = error;
  while (deepest instanceof Error && deepest.cause instanceof Error) deepest = deepest.cause;
  return deepest instanceof Error ? deepest.message : String(deepest);
}
