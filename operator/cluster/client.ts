/**
 * The API server, as the operator asks it. `apply` is server-side apply under the operator's own field manager: it owns
 * the fields that it names and no others, so Helm's and other people's fields in the same object stay theirs.
 */
import {
  AdmissionregistrationV1Api,
  CoordinationV1Api,
  CoreV1Api,
  type KubeConfig,
  type KubernetesObject,
  KubernetesObjectApi,
  PatchStrategy,
} from '@kubernetes/client-node';
import { loadConfig } from '../../kubernetes/client.ts';

export { kubernetesError, statusOf, within } from '../../kubernetes/client.ts';

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
  const config = loadConfig(kubeconfig);
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
