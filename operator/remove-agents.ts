/**
 * What the chart runs before `helm uninstall` removes anything: the node agents end first, each taking back what it put
 * on its node, as long as they have the rights to. It keeps no uninstallation from going on: what it could not do is
 * said, and exit status 0 all the same.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { AppsV1Api } from '@kubernetes/client-node';
import { kubernetesError, loadConfig, statusOf, within } from '../kubernetes/client.ts';

const ASK_TIMEOUT_MS = 10_000;
const AGAIN_MS = 250;

export interface RemoveAgentsOptions {
  readonly namespace: string;
  /** Name of the agents' DaemonSet. */
  readonly daemonSet: string;
  readonly waitMs: number;
  readonly kubeconfig: string | undefined;
}

/** Resolves when the agents have ended, or the time is up; the answer says which. Throws ERR_TCPCRYPT_KUBERNETES where there is no way to an API server. */
export async function removeAgents({
  namespace,
  daemonSet: name,
  waitMs,
  kubeconfig,
}: RemoveAgentsOptions): Promise<string> {
  const apps = loadConfig(kubeconfig).makeApiClient(AppsV1Api);
  const until = performance.now() + waitMs;
  // In the foreground: the object is there until the last of its pods is gone.
  const remove = () => apps.deleteNamespacedDaemonSet({ name, namespace, propagationPolicy: 'Foreground' });
  const look = () => apps.readNamespacedDaemonSet({ name, namespace });
  let next: () => Promise<unknown> = remove;
  for (;;) {
    let problem = 'their pods have not ended: is a node down?';
    try {
      await within(ASK_TIMEOUT_MS, next());
      next = look;
    } catch (error) {
      if (statusOf(error) === 404) return 'the node agents have ended';
      problem = kubernetesError(error).message;
    }
    if (performance.now() > until)
      return `not every node agent has ended; what one left on its node stays: ${problem}`;
    await sleep(AGAIN_MS);
  }
}
