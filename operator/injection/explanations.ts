/** Why a pod has no sidecar, as part of a sentence: for messages and events. */
import type { Decision, ExcludedReason, LeftAloneReason } from './decision.ts';

const WHY: Readonly<Record<ExcludedReason | LeftAloneReason, string>> = {
  namespace: 'pods of this namespace never get one',
  disabled: 'it is labelled tcpcrypt.io/inject: disabled, or its namespace is',
  default: 'injection is off unless tcpcrypt.io/inject: enabled says otherwise',
  mirror_pod: 'it is the mirror of a static pod',
  host_network: 'it uses the network of its node',
  other_mesh: 'another service mesh proxies it',
  pod_security: 'the Pod Security level of its namespace forbids the capability NET_ADMIN',
  runtime_class: "its runtime class does not use the kernel's packet filter",
  windows: 'it runs on Windows',
  architecture: 'there is no image for the node architectures that it allows',
  name_taken: 'it has a container or a volume of its own with a name that the sidecar needs',
  suspended:
    'the API server refused pods of its namespace because of the sidecar, and injection has stopped there',
};

export function explain(decision: Decision): string {
  if (decision.kind === 'inject') return 'the webhook that adds it was not reached in time; try again';
  return WHY[decision.reason];
}
