/** What the agent needs to know of a pod, taken from the API's object at the boundary. */
import { CONTAINER, STATUS_ANNOTATION, STATUS_INJECTED } from '../../kubernetes/names.ts';
import { type SidecarRules, sidecarRules } from './rule-options.ts';

export interface Pod {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Undefined where there is no sidecar for it: nothing is done then. */
  readonly sidecar: Sidecar | undefined;
  /** It is being deleted, or has ended. */
  readonly ending: boolean;
}

export interface Sidecar {
  /** Undefined where its arguments make no rules; `problem` says why. */
  readonly rules: SidecarRules | undefined;
  readonly problem: string;
  /** The first container to start; then there are processes in the pod's namespaces. */
  readonly started: boolean;
}

/** The parts of a v1.Pod that are read; everything may be missing. */
export interface ApiPod {
  readonly metadata?:
    | {
        readonly namespace?: string;
        readonly name?: string;
        readonly uid?: string;
        readonly labels?: Readonly<Record<string, string>>;
        readonly annotations?: Readonly<Record<string, string>>;
        readonly deletionTimestamp?: unknown;
      }
    | undefined;
  readonly spec?:
    | {
        readonly hostNetwork?: boolean;
        readonly initContainers?: readonly {
          readonly name: string;
          readonly command?: readonly string[];
          readonly args?: readonly string[];
        }[];
      }
    | undefined;
  readonly status?:
    | {
        readonly phase?: string;
        readonly initContainerStatuses?: readonly {
          readonly name: string;
          readonly state?: { readonly running?: unknown };
        }[];
      }
    | undefined;
}

export function readPod({ metadata, spec, status }: ApiPod): Pod {
  const { namespace = '', name = '', uid = '', labels = {}, annotations = {} } = metadata ?? {};
  const container = spec?.initContainers?.find((each) => each.name === CONTAINER);
  const injected =
    annotations[STATUS_ANNOTATION] === STATUS_INJECTED &&
    spec?.hostNetwork !== true &&
    container !== undefined;
  const ended = status?.phase === 'Succeeded' || status?.phase === 'Failed';
  const running = status?.initContainerStatuses?.find((each) => each.name === CONTAINER)?.state?.running;
  return {
    ...{ namespace, name, uid, labels },
    ending: ended || metadata?.deletionTimestamp !== undefined,
    sidecar: injected
      ? {
          ...readRules([...(container.command ?? []), ...(container.args ?? [])]),
          started: running !== undefined && running !== null,
        }
      : undefined,
  };
}

function readRules(args: readonly string[]): { rules: SidecarRules | undefined; problem: string } {
  try {
    return { rules: sidecarRules(args), problem: '' };
  } catch (error) {
    return { rules: undefined, problem: (error as Error).message };
  }
}
