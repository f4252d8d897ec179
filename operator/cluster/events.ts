/**
 * Kubernetes events, written one after the other so that a thousand pods do not become a thousand requests at once. An
 * event's name is made of what it is about, so it is written once, whichever replica leads and however often it is said.
 */
import type { V1ObjectReference } from '@kubernetes/client-node';
import { errorFields, type Logger } from '../../observability/log.ts';
import type { Metrics } from '../metrics.ts';
import { type Cluster, kubernetesError, statusOf, within } from './client.ts';

export interface Notice {
  /** A DNS subdomain, unique to object and matter. */
  readonly name: string;
  readonly about: V1ObjectReference & { readonly namespace: string };
  readonly type: 'Normal' | 'Warning';
  readonly reason: string;
  readonly message: string;
}

const MAX_WAITING = 1000;
const MAX_REMEMBERED = 10_000;
const TIMEOUT_MS = 10_000;
/** The API's own limit. */
const MAX_MESSAGE = 1024;
const COMPONENT = 'tcpcrypt-operator';

export class EventWriter {
  readonly #waiting: Notice[] = [];
  readonly #cluster: Cluster;
  readonly #metrics: Metrics;
  readonly #log: Logger;
  readonly #said = new Set<string>();
  #writing = false;

  constructor(cluster: Cluster, metrics: Metrics, log: Logger) {
    this.#cluster = cluster;
    this.#metrics = metrics;
    this.#log = log;
    metrics.beforeScrape(() =>
      metrics.set('tcpcrypt_operator_queue_depth', this.#waiting.length, { queue: 'events' }),
    );
  }

  write(notice: Notice): void {
    if (this.#said.has(notice.name)) return;
    if (this.#waiting.length >= MAX_WAITING) {
      this.#count(notice, 'dropped');
      return;
    }
    this.#remember(notice.name);
    this.#waiting.push(notice);
    if (!this.#writing) void this.#drain();
  }

  async #drain(): Promise<void> {
    this.#writing = true;
    for (let notice = this.#waiting.shift(); notice !== undefined; notice = this.#waiting.shift()) {
      try {
        await within(TIMEOUT_MS, this.#create(notice));
        this.#count(notice, 'written');
      } catch (error) {
        const status = statusOf(error);
        // 409: written before. 404 and 403: the object's namespace is gone or going.
        if (status === 409) this.#count(notice, 'known');
        else {
          this.#count(notice, 'failed');
          this.#log.warn(
            { ...errorFields(kubernetesError(error)), event: notice.name },
            'an event was not written',
          );
        }
      }
    }
    this.#writing = false;
  }

  /** A pod changes often in its first minutes. What is forgotten is asked of the API server again. */
  #remember(name: string): void {
    this.#said.add(name);
    if (this.#said.size <= MAX_REMEMBERED) return;
    const [oldest] = this.#said;
    this.#said.delete(oldest!);
  }

  async #create({ name, about, type, reason, message }: Notice): Promise<void> {
    const now = new Date();
    await this.#cluster.core.createNamespacedEvent({
      namespace: about.namespace,
      body: {
        metadata: { name, namespace: about.namespace },
        involvedObject: about,
        type,
        reason,
        message: message.slice(0, MAX_MESSAGE),
        source: { component: COMPONENT },
        reportingComponent: COMPONENT,
        reportingInstance: COMPONENT,
        firstTimestamp: now,
        lastTimestamp: now,
        count: 1,
      },
    });
  }

  #count({ reason }: Notice, result: string): void {
    this.#metrics.count('tcpcrypt_operator_events_total', { reason, result });
  }
}
