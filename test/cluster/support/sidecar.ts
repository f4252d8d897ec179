/** The sidecar put into a pod by hand, as the operator's injection will put it, but with rules of its own. */
import { setTimeout } from 'node:timers/promises';
import type { ConnectionInfo } from '../../../sidecar/rewriter/types.ts';
import { eventually } from '../../kernel/support/processes.ts';
import { PRODUCT_IMAGE } from '../images.ts';
import type { TestNamespace } from './pods.ts';

const STATE = '/run/tcpcrypt-state';
const CONTROL_SOCKET = `${STATE}/control.sock`;

/** More of a pod's spec: the sidecar starts first, and what it needs to be allowed. */
export const sidecarSpec = {
  // In a pod /proc/sys is read-only: this is the CNI plugin's part.
  securityContext: { sysctls: [{ name: 'net.netfilter.nf_conntrack_tcp_be_liberal', value: '1' }] },
  initContainers: [
    {
      name: 'tcpcrypt',
      image: PRODUCT_IMAGE,
      imagePullPolicy: 'Never',
      restartPolicy: 'Always',
      args: [
        ...['run', '--install-rules', '--state-dir', `${STATE}/checkpoint`],
        ...['--control-socket', CONTROL_SOCKET, '--api-socket', 'none'],
      ],
      startupProbe: {
        exec: { command: ['tcpcrypt-node', 'probe', '--control-socket', CONTROL_SOCKET] },
        periodSeconds: 1,
        failureThreshold: 60,
        timeoutSeconds: 10,
      },
      securityContext: {
        runAsUser: 0,
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'], add: ['NET_ADMIN', 'NET_RAW'] },
        seccompProfile: { type: 'RuntimeDefault' },
      },
      volumeMounts: [{ name: 'tcpcrypt-state', mountPath: STATE }],
    },
  ],
  volumes: [{ name: 'tcpcrypt-state', emptyDir: { medium: 'Memory' } }],
};

/** A pod's connections as its sidecar knows them. */
export function connections(namespace: TestNamespace, pod: string): ConnectionInfo[] {
  const command = ['tcpcrypt', 'connections', '--json', '--api-socket', CONTROL_SOCKET];
  const answer = JSON.parse(namespace.exec(`${pod}/tcpcrypt`, command).stdout);
  return Array.isArray(answer) ? answer : answer.connections;
}

/** Waits until a pod's rewriter runs: where a machine is very busy, a pod starts without waiting for it. */
export async function sidecarReady(namespace: TestNamespace, pod: string): Promise<void> {
  const command = ['tcpcrypt', 'connections', '--json', '--api-socket', CONTROL_SOCKET];
  const answers = (): boolean =>
    namespace.exec(`${pod}/tcpcrypt`, command, { allowFailure: true }).status === 0;
  await eventually(answers, `the sidecar of ${pod}`, 60_000);
}

/** The newest connection that both ends know and that is encrypted; of a session, if one is named. */
export async function encryptedAtBothEnds(
  namespace: TestNamespace,
  client: string,
  server: string,
  port: number,
  sessionId?: string,
): Promise<readonly [ConnectionInfo, ConnectionInfo]> {
  let seen = '';
  for (let tries = 20; tries > 0; tries--) {
    const mine = connections(namespace, client);
    const theirs = connections(namespace, server);
    const encrypted = mine
      .filter(({ remote, state }) => remote.endsWith(`:${port}`) && state === 'encrypted')
      .filter((each) => sessionId === undefined || each.sessionId === sessionId)
      .toReversed();
    for (const at of encrypted) {
      const end = theirs.find(({ remote, state }) => remote === at.local && state === 'encrypted');
      if (end) return [at, end];
    }
    seen = JSON.stringify({ mine, theirs });
    await setTimeout(500);
  }
  throw new Error(`no encrypted connection that both ends know: ${seen}`);
}
