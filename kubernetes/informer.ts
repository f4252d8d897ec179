/**
 * Objects of a kind, kept up to date in memory: the client's list-and-watch, with what it leaves to its user: objects
 * cut down to what is needed before they are kept, lists page by page, and starting again after an error.
 */
import {
  type KubeConfig,
  type KubernetesListObject,
  type KubernetesObject,
  ListWatch,
  Watch,
} from '@kubernetes/client-node';
import { errorFields, type Logger } from '../observability/log.ts';
import { kubernetesError } from './client.ts';

const PAGE = 500;
const FIRST_DELAY_MS = 1000;
const LAST_DELAY_MS = 30_000;

export interface Page {
  readonly limit: number;
  readonly _continue?: string;
  readonly fieldSelector?: string;
  readonly labelSelector?: string;
}

/** What must be kept of an object. */
export interface Kept {
  readonly metadata?: {
    readonly name?: string;
    readonly namespace?: string;
    readonly resourceVersion?: string;
  };
}

export interface InformerOptions<T extends Kept> {
  readonly what: string;
  readonly path: string;
  readonly list: (page: Page) => Promise<KubernetesListObject<KubernetesObject>>;
  /** What is kept of an object. */
  readonly reduce: (object: unknown) => T;
  readonly fieldSelector?: string;
  readonly labelSelector?: string;
}

export interface Informer<T> {
  /** Settles when the first list is there; never rejects. */
  readonly synced: Promise<void>;
  get(name: string, namespace?: string): T | undefined;
  list(): readonly T[];
  /** What is known already is a change too: whoever comes late misses nothing. Exceptions are logged. */
  on(what: 'change' | 'delete', handle: (object: T) => void): void;
  stop(): void;
}

export function startInformer<T extends Kept>(
  config: KubeConfig,
  options: InformerOptions<T>,
  log: Logger,
): Informer<T> {
  const { what, reduce } = options;
  const synced = Promise.withResolvers<void>();
  let listed = false;
  const list = async () => {
    const all = await listAll(options);
    listed = true;
    return all;
  };
  const watch = new ReducingWatch(config, reduce);
  const { path, labelSelector, fieldSelector } = options;
  const source = new ListWatch<T & KubernetesObject>(path, watch, list, false, labelSelector, fieldSelector);
  let stopped = false;
  let delayMs = FIRST_DELAY_MS;
  let timer: NodeJS.Timeout | undefined;

  const start = async (): Promise<void> => {
    await source.start();
    if (!listed) return;
    delayMs = FIRST_DELAY_MS;
    synced.resolve();
  };
  source.on('error', (error: unknown) => {
    if (stopped) return;
    log.warn({ ...errorFields(kubernetesError(error)), what }, 'the watch ended; it is started again');
    timer = setTimeout(start, delayMs);
    delayMs = Math.min(delayMs * 2, LAST_DELAY_MS);
  });
  void start();

  return {
    synced: synced.promise,
    get: (name, namespace) => source.get(name, namespace),
    list: () => source.list(),
    on: (event, handle) => {
      // The client would swallow what a handler throws.
      const guarded = (object: T): void => {
        try {
          handle(object);
        } catch (error) {
          log.error({ ...errorFields(error), what }, 'a change could not be handled');
        }
      };
      for (const verb of event === 'change' ? (['add', 'update'] as const) : (['delete'] as const)) {
        source.on(verb, guarded);
      }
      if (event === 'change') for (const object of source.list()) guarded(object);
    },
    stop: () => {
      stopped = true;
      clearTimeout(timer);
      void source.stop();
    },
  };
}

async function listAll<T extends Kept>(
  options: InformerOptions<T>,
): Promise<KubernetesListObject<T & KubernetesObject>> {
  const { list, reduce, fieldSelector, labelSelector } = options;
  const items: (T & KubernetesObject)[] = [];
  const selectors = { ...(fieldSelector && { fieldSelector }), ...(labelSelector && { labelSelector }) };
  let _continue: string | undefined;
  for (;;) {
    const page = await list({ limit: PAGE, ...selectors, ...(_continue && { _continue }) });
    for (const item of page.items) items.push(reduce(item) as T & KubernetesObject);
    _continue = page.metadata?._continue;
    if (!_continue) return { items, ...(page.metadata && { metadata: page.metadata }) };
  }
}

class ReducingWatch extends Watch {
  readonly #reduce: (object: unknown) => unknown;
  constructor(config: KubeConfig, reduce: (object: unknown) => unknown) {
    super(config);
    this.#reduce = reduce;
  }
  override watch(
    path: string,
    query: Parameters<Watch['watch']>[1],
    callback: Parameters<Watch['watch']>[2],
    done: Parameters<Watch['watch']>[3],
  ): Promise<AbortController> {
    const reduced: typeof callback = (phase, object) =>
      callback(phase, phase === 'ERROR' || phase === 'BOOKMARK' ? object : this.#reduce(object));
    return super.watch(path, query, reduced, done);
  }
}
