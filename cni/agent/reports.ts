/** Tells a pod's owner, by an event, that its pod runs without rules: once for each pod and reason. */
import type { CoreV1Api } from '@kubernetes/client-node';
import { kubernetesError, statusOf, within } from '../../kubernetes/client.ts';
import { errorFields, type Logger } from '../../observability/log.ts';
import type { Pod } from './pod.ts';

const TIMEOUT_MS = 10_000;
/** The API's own limit. */
const MAX_MESSAGE = 1024;
const COMPONENT = 'tcpcrypt-node-agent';
/** Pods are told of once; those long gone need not be remembered. */
const MAX_REMEMBERED = 10_000;

export class Reports {
  readonly #core: CoreV1Api;
  readonly #node: string;
  readonly #log: Logger;
  readonly #said = new Set<string>();

  constructor(core: CoreV1Api, node: string, log: Logger) {
    this.#core = core;
    this.#node = node;
    this.#log = log;
  }

  leftAlone(pod: Pod, reason: string, message: string): void {
    const { namespace, name, uid } = pod;
    const key = `${uid} ${reason}`;
    if (this.#said.has(key)) return;
    if (this.#said.size >= MAX_REMEMBERED) this.#said.clear();
    this.#said.add(key);
    this.#log.warn({ namespace, name, reason, message }, 'a pod has no rules: its connections are plain');
    void this.#write(pod, reason, message);
  }

  /** An event's name says what it is about: a second agent's is the same one. Never rejects. */
  async #write({ namespace, name, uid }: Pod, reason: string, message: string): Promise<void> {
    const now = new Date();
    const body = {
      metadata: { name: `tcpcrypt-${uid}-${reason.replaceAll('_', '-')}`, namespace },
      involvedObject: { apiVersion: 'v1', kind: 'Pod', namespace, name, uid },
      ...{
        type: 'Warning',
        reason: 'TcpcryptNotProgrammed',
        count: 1,
        firstTimestamp: now,
        lastTimestamp: now,
      },
      message: `tcpcrypt has no rules in this pod (${reason}): ${message}`.slice(0, MAX_MESSAGE),
      source: { component: COMPONENT, host: this.#node },
      ...{ reportingComponent: COMPONENT, reportingInstance: this.#node },
    };
    try {
      await within(TIMEOUT_MS, this.#core.createNamespacedEvent({ namespace, body }));
    } catch (error) {
      if (statusOf(error) !== 409)
        this.#log.debug(errorFields(kubernetesError(error)), 'an event was not written');
    }
  }
}
