/** A pod's sidecar: put in by hand, and looked at. */
import { setTimeout } from 'node:timers/promises';
import type { ApiConnection } from '../../../sidecar/runtime/api.ts';
import { parseMetrics, type Sample } from '../../kernel/support/metrics.ts';
import { eventually } from '../../kernel/support/processes.ts';
import { PRODUCT_IMAGE } from '../images.ts';
import type { Machine } from '../machine.ts';
import type { TestNamespace } from './pods.ts';
import { type Process, podProcesses } from './processes.ts';

const STATE = '/run/tcpcrypt-state';
const CONTROL_SOCKET = `${STATE}/control.sock`;

/** More of a pod's spec: the sidecar starts first, and what it needs to be allowed. As injection does it, but with rules of its own. */
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

/** The socket's path as a whole is longer than an address may be. */
const ASK = 'cd "$1" && exec curl -sSf --max-time 10 --unix-socket control.sock "http://localhost/v1/$2"';
const REWRITER = /^\S*\/node .* run /;
const PAGE_BYTES = 4096;
const TICKS_PER_SECOND = 100;
const SUPERVISOR = /^\S*tcpcrypt-node supervise /;

/** The sidecar of a pod, asked as the node agent asks it: over its control socket, from the pod's node. */
export class Sidecar {
  readonly #uid: string;
  readonly node: Machine;

  constructor(namespace: TestNamespace, name: string) {
    const { metadata, spec } = namespace.pod(name);
    this.#uid = metadata.uid;
    this.node = namespace.cluster.nodes[spec.nodeName];
  }

  metrics(): Sample[] {
    return parseMetrics(this.#ask('metrics'));
  }

  connections(): ApiConnection[] {
    return JSON.parse(this.#ask('connections')).connections;
  }

  /** The process that handles packets. */
  rewriter(): Process {
    const found = this.#process(REWRITER);
    if (!found) throw new Error('the rewriter does not run');
    return found;
  }

  /** Its parent, the container's first process. */
  supervisor(): Process {
    const found = this.#process(SUPERVISOR);
    if (!found) throw new Error('the supervisor does not run');
    return found;
  }

  /** Until another rewriter than this one answers; returns that. */
  restarted({ pid }: Process): Promise<Process> {
    return eventually(
      () => {
        const now = this.#process(REWRITER);
        return now && now.pid !== pid && this.answers() ? now : undefined;
      },
      'another rewriter',
      60_000,
    );
  }

  /** Of rewriter and supervisor: physical memory now, and processor time until now. */
  usage(): { readonly residentBytes: number; readonly cpuSeconds: number } {
    const files = [this.rewriter(), this.supervisor()].map(({ pid }) => `/proc/${pid}/stat`);
    // proc(5): what follows the name in parentheses begins with field 3.
    const rows = this.node
      .run('cat', files)
      .stdout.trim()
      .split('\n')
      .map((line) =>
        line
          .replace(/^.*\) /, '')
          .split(' ')
          .map(Number),
      );
    const sum = (field: number): number => rows.reduce((all, row) => all + row[field - 3]!, 0);
    return { residentBytes: PAGE_BYTES * sum(24), cpuSeconds: (sum(14) + sum(15)) / TICKS_PER_SECOND };
  }

  #process(pattern: RegExp): Process | undefined {
    return podProcesses(this.node, this.#uid).find(({ commandLine }) => pattern.test(commandLine));
  }

  /** It has come up. */
  answers(): boolean {
    try {
      return this.metrics().length > 0;
    } catch {
      return false;
    }
  }

  #ask(what: string): string {
    const volume = `/var/lib/kubelet/pods/${this.#uid}/volumes/kubernetes.io~empty-dir/tcpcrypt-state`;
    return this.node.run('sh', ['-c', ASK, 'sh', volume, what]).stdout;
  }
}

/** Waits until a pod's rewriter runs: where a machine is very busy, a pod starts without waiting for it. */
export async function sidecarReady(namespace: TestNamespace, pod: string): Promise<void> {
  const sidecar = new Sidecar(namespace, pod);
  await eventually(() => sidecar.answers(), `the sidecar of ${pod}`, 60_000);
}

/**
 * The connection that both ends know and that is encrypted; the latest, since ended ones are known for a while.
 */
export async function encryptedAtBothEnds(
  namespace: TestNamespace,
  client: string,
  server: string,
  port: number,
): Promise<readonly [ApiConnection, ApiConnection]> {
  const [here, there] = [new Sidecar(namespace, client), new Sidecar(namespace, server)];
  let seen = '';
  for (let tries = 20; tries > 0; tries--) {
    const mine = here.connections();
    const theirs = there.connections();
    for (const at of mine.toSorted((a, b) => b.openedAt.localeCompare(a.openedAt))) {
      if (!at.remote.endsWith(`:${port}`) || at.state !== 'encrypted') continue;
      const end = theirs.find(({ remote, local }) => remote === at.local && local === at.remote);
      if (end?.state === 'encrypted') return [at, end];
    }
    seen = JSON.stringify({ mine, theirs });
    await setTimeout(500);
  }
  throw new Error(`no encrypted connection that both ends know: ${seen}`);
}
