/** The chart as Helm renders it, for the tests: variants of values, and the objects that come out. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseAllDocuments, stringify } from 'yaml';
import { requireProgram } from '../cluster/programs.ts';
import { CHART, type Json, NAMESPACE } from './lab.ts';

/** `helm template` knows of no cluster. */
export const KUBERNETES = ['--kube-version', '1.34'];
export const HELMS = ['helm', 'helm4'] as const;
export type Helm = (typeof HELMS)[number];
const PLATFORMS = ['auto', 'gke', 'k3s', 'microk8s', 'openshift'];

/** One of each kind of flag; every platform besides. */
export const VARIANTS: Readonly<Record<string, Json>> = {
  'no values': {},
  ...Object.fromEntries(PLATFORMS.map((platform) => [`platform ${platform}`, { platform }])),
  monitoring: {
    metrics: {
      podMonitor: { enabled: true, sidecars: true, labels: { release: 'prometheus' } },
      prometheusRule: { enabled: true },
      dashboard: { enabled: true },
    },
  },
  'cert-manager': { webhook: { certManager: { enabled: true } } },
  'cert-manager, an issuer': {
    webhook: { certManager: { enabled: true, issuerRef: { name: 'ca', kind: 'ClusterIssuer' } } },
  },
  'no agent, one replica': {
    nodeAgent: { enabled: false },
    operator: { replicas: 1, hostNetwork: true, podDisruptionBudget: { enabled: false } },
    networkPolicy: { enabled: false },
  },
  'everything set': {
    image: { digest: `sha256:${'0'.repeat(64)}`, pullSecrets: ['registry'] },
    injection: { default: 'disabled', excludedNamespaces: ['legacy'], args: ['--first-queue=6000'] },
    policy: {
      mode: 'Strict',
      authentication: 'Required',
      rules: [{ direction: 'Inbound', ports: [{ port: 5432 }], mode: 'Strict' }],
      sessionCache: { maxEntries: 10 },
      rekey: { after: '1h' },
    },
    cluster: { cidrs: ['203.0.113.0/24', '2001:db8::/32'] },
    operator: {
      nodeSelector: { a: 'b' },
      tolerations: [{ operator: 'Exists' }],
      affinity: { podAntiAffinity: {} },
      podLabels: { a: 'b' },
      podAnnotations: { a: 'b' },
    },
    nodeAgent: {
      cni: { enabled: false, binDir: '/bin', confDir: '/conf', agentUnavailable: 'Fail' },
      kubeletDir: '/kubelet',
      podLabels: { a: 'b' },
      podAnnotations: { a: 'b' },
      tolerations: [{ key: 'a', operator: 'Exists' }],
    },
  },
};

/** Helm's own files, and values. */
export const folder = mkdtempSync(join(tmpdir(), 'tcpcrypt-chart-'));
process.once('exit', () => rmSync(folder, { recursive: true, force: true }));

export function helm(
  version: Helm,
  args: readonly string[],
  kubeconfig = '/dev/null',
): { ok: boolean; text: string } {
  const { status, stdout, stderr } = spawnSync(requireProgram(version), [...args], {
    encoding: 'utf8',
    env: { ...process.env, HOME: folder, KUBECONFIG: kubeconfig },
    maxBuffer: 1 << 24,
  });
  return { ok: status === 0, text: stdout + stderr };
}

export function valuesFile(values: Json): string {
  const file = join(folder, 'values.yaml');
  writeFileSync(file, stringify(values));
  return file;
}

export function rendered(version: Helm, values: Json): Json[] {
  const { ok, text } = helm(version, [
    'template',
    'tcpcrypt',
    CHART,
    '-n',
    NAMESPACE,
    ...KUBERNETES,
    '-f',
    valuesFile(values),
  ]);
  assert.ok(ok, text);
  return parseAllDocuments(text)
    .map((document) => document.toJS() as Json)
    .filter((object) => object !== null);
}

export const find = (objects: Json[], kind: string, name: string): Json =>
  objects.find((object) => object.kind === kind && object.metadata.name === name);
