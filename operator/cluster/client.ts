/**
 * The API server, as the operator asks it. `apply` is server-side apply under the operator's own field manager: it owns
 * the fields that it names and no others, so Helm's and other people's fields in the same object stay theirs.
 */
import {
  AdmissionregistrationV1Api,
  ApiException,
  CoordinationV1Api,
  CoreV1Api,
  KubeConfig,
  type KubernetesObject,
  KubernetesObjectApi,
  PatchStrategy,
} from '@kubernetes/client-node';
import { TcpcryptError } from '../../errors/catalogue.ts';

export const FIELD_MANAGER = 'tcpcrypt-operator';

export interface Cluster {
  readonly config: KubeConfig;
  readonly core: CoreV1Api;
  readonly leases: CoordinationV1Api;
  readonly admission: AdmissionregistrationV1Api;
  /** Makes the object so, whether it is there or not. */
  readonly apply: (object: KubernetesObject & Record<string, unknown>) => Promise<void>;
}

/** `kubeconfig`: a file; without it the pod's service account. Throws ERR_TCPCRYPT_KUBERNETES. */
export function connect(kubeconfig: string | undefined): Cluster {
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
  const objects = KubernetesObjectApi.makeApiClient(config);
  return {
    config,
    core: config.makeApiClient(CoreV1Api),
    leases: config.makeApiClient(CoordinationV1Api),
    admission: config.makeApiClient(AdmissionregistrationV1Api),
    apply: async (object) => {
      await objects.patch(object, undefined, undefined, FIELD_MANAGER, true, PatchStrategy.ServerSideApply);
    },
  };
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
