/** Settings and pods for the tests of this folder and of the webhook. */
import fc from 'fast-check';
import type { DecisionSettings, Namespace } from './decision.ts';
import type { InjectionSettings } from './mutation.ts';
import type { Pod } from './pod.ts';

export const decisionSettings: DecisionSettings = {
  default: 'enabled',
  excludedNamespaces: ['kube-system', 'tcpcrypt-system'],
  runtimeClasses: ['gvisor', 'kata*'],
  architectures: ['amd64', 'arm64'],
};

export const injectionSettings: InjectionSettings = {
  image: 'registry.example/tcpcrypt@sha256:0123',
  imagePullPolicy: 'IfNotPresent',
  args: [],
  clusterCidrs: ['10.0.0.0/8'],
  policy: { mode: 'Opportunistic' },
  strict: false,
  metricsPort: 19090,
  resources: {
    cpu: '10m',
    memory: '96Mi',
    memoryLimit: '256Mi',
    guaranteed: { cpu: '500m', memory: '256Mi' },
  },
};

export function namespaceOf(
  labels: Record<string, string> = {},
  name = 'shop',
  annotations: Record<string, string> = {},
): Namespace {
  return { name, labels, annotations };
}

type Parts<T> = { [K in keyof T]?: T[K] };

export function podOf(spec: Parts<Pod['spec']> = {}, metadata: Pod['metadata'] = {}): Pod {
  return {
    metadata: { name: 'web-1', namespace: 'shop', ...metadata },
    spec: { containers: [{ name: 'web', image: 'web' }], ...spec },
  };
}

const name = fc.constantFrom('web', 'log', 'tcpcrypt', 'istio-proxy', 'setup');
const resources = fc.record(
  {
    requests: fc.record(
      { cpu: fc.constantFrom('1', '500m'), memory: fc.constant('1Gi') },
      { requiredKeys: [] },
    ),
    limits: fc.record(
      { cpu: fc.constantFrom('1', '1000m'), memory: fc.constantFrom('1Gi', '1024Mi') },
      { requiredKeys: [] },
    ),
  },
  { requiredKeys: [] },
);
const container = fc.record(
  {
    name,
    image: fc.constantFrom('a', 'b'),
    restartPolicy: fc.constant('Always'),
    resources,
    volumeMounts: fc.array(
      fc.record({
        name: fc.constantFrom('data', 'tcpcrypt-api'),
        mountPath: fc.constantFrom('/data', '/run/tcpcrypt'),
      }),
      { maxLength: 2 },
    ),
  },
  { requiredKeys: ['name'] },
);

/** Pods of every shape that injection looks at, our own traces in them included. */
export const anyPod: fc.Arbitrary<Pod> = fc.record({
  metadata: fc.record(
    {
      name: fc.constant('web-1'),
      labels: fc.dictionary(fc.constantFrom('app', 'tcpcrypt.io/api'), fc.constantFrom('enabled', 'web')),
      annotations: fc.dictionary(
        fc.constantFrom(
          'tcpcrypt.io/status',
          'tcpcrypt.io/api',
          'tcpcrypt.io/cpu-limit',
          'tcpcrypt.io/memory-request',
          'note',
        ),
        fc.constantFrom('injected', 'enabled', '2', 'much'),
      ),
    },
    { requiredKeys: [] },
  ),
  spec: fc.record(
    {
      containers: fc.array(container, { minLength: 1, maxLength: 3 }),
      initContainers: fc.array(container, { maxLength: 3 }),
      volumes: fc.array(fc.record({ name: fc.constantFrom('data', 'tcpcrypt-state', 'tcpcrypt-api') }), {
        maxLength: 3,
      }),
      terminationGracePeriodSeconds: fc.nat(100),
      resources,
    },
    { requiredKeys: ['containers'] },
  ),
});
