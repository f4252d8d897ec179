/**
 * The sidecar's container and volumes, with every field that the API server would fill in: what it stores is then what
 * we sent, and a second look finds nothing to change.
 */
import {
  API_DIR,
  API_SOCKET_FILE,
  API_VOLUME,
  CONTAINER,
  CONTROL_SOCKET_FILE,
  NO_TOKEN_VOLUME,
  POD_DIR,
  POD_VOLUME,
  STATE_DIR,
  STATE_VOLUME,
} from '../../kubernetes/names.ts';
import type { Resources, Volume, VolumeMount } from './pod.ts';

export interface ContainerSettings {
  readonly image: string;
  readonly imagePullPolicy: 'Always' | 'IfNotPresent' | 'Never';
  /** More arguments for `tcpcrypt run`. */
  readonly args: readonly string[];
  readonly clusterCidrs: readonly string[];
  /** A policy document, for as long as no node agent has handed over another. */
  readonly policy: unknown;
  /** New connections wait for the rewriter, and the pod does not start without it. */
  readonly strict: boolean;
  readonly metricsPort: number;
}

const TOKEN_DIR = '/var/run/secrets/kubernetes.io/serviceaccount';
const CONTROL_SOCKET = `${STATE_DIR}/${CONTROL_SOCKET_FILE}`;
/** The static executable in the image: supervisor and probe. */
const EXECUTABLE = 'tcpcrypt-node';
export const COMMAND_LINE: readonly string[] = [EXECUTABLE, 'supervise', '--', 'tcpcrypt', 'run'];
const DEFAULT_GRACE_SECONDS = 30;
/** What the rewriter leaves of the pod's grace period, so that it ends by itself. */
const GRACE_MARGIN_SECONDS = 2;
/** By itself the probe answers yes after 10 s; the kubelet must not end it before. */
const PROBE_TIMEOUT_SECONDS = 15;
/** Of a Strict pod, whose probe may say no: ten minutes until the container is started anew. */
const PROBE_FAILURES = 40;

const MODE_READ = 0o444;

export function sidecarContainer(
  settings: ContainerSettings,
  { api, resources, graceSeconds }: { api: boolean; resources: Resources; graceSeconds: number | undefined },
) {
  return {
    name: CONTAINER,
    image: settings.image,
    imagePullPolicy: settings.imagePullPolicy,
    restartPolicy: 'Always',
    command: COMMAND_LINE,
    args: runArguments(settings, api, graceSeconds ?? DEFAULT_GRACE_SECONDS),
    env: [
      { name: 'TCPCRYPT_HOST_IP', valueFrom: { fieldRef: { apiVersion: 'v1', fieldPath: 'status.hostIP' } } },
      // The root file system is read-only, and iptables wants a lock.
      { name: 'XTABLES_LOCKFILE', value: `${STATE_DIR}/xtables.lock` },
    ],
    ports: [{ name: 'tcpcrypt-prom', containerPort: settings.metricsPort, protocol: 'TCP' }],
    resources,
    startupProbe: {
      exec: {
        command: [
          EXECUTABLE,
          'probe',
          '--control-socket',
          CONTROL_SOCKET,
          ...(settings.strict ? ['--strict'] : []),
        ],
      },
      timeoutSeconds: PROBE_TIMEOUT_SECONDS,
      periodSeconds: 1,
      successThreshold: 1,
      failureThreshold: PROBE_FAILURES,
    },
    securityContext: {
      capabilities: { add: ['NET_ADMIN', 'NET_RAW'], drop: ['ALL'] },
      privileged: false,
      runAsUser: 0,
      runAsGroup: 0,
      runAsNonRoot: false,
      readOnlyRootFilesystem: true,
      allowPrivilegeEscalation: false,
      seccompProfile: { type: 'RuntimeDefault' },
    },
    terminationMessagePath: '/dev/termination-log',
    terminationMessagePolicy: 'FallbackToLogsOnError',
    volumeMounts: [
      { name: STATE_VOLUME, mountPath: STATE_DIR },
      { name: POD_VOLUME, mountPath: POD_DIR, readOnly: true },
      { name: NO_TOKEN_VOLUME, mountPath: TOKEN_DIR, readOnly: true },
      ...(api ? [{ name: API_VOLUME, mountPath: API_DIR }] : []),
    ],
  };
}

function runArguments(settings: ContainerSettings, api: boolean, graceSeconds: number): string[] {
  return [
    `--state-dir=${STATE_DIR}`,
    // Where neither CNI plugin nor node agent could.
    '--ensure-rules',
    `--control-socket=${CONTROL_SOCKET}`,
    `--api-socket=${api ? `${API_DIR}/${API_SOCKET_FILE}` : 'none'}`,
    `--metrics-listen=[::]:${settings.metricsPort}`,
    `--grace=${Math.max(1, graceSeconds - GRACE_MARGIN_SECONDS)}`,
    `--initial-policy=${JSON.stringify(settings.policy)}`,
    '--node-cidr=$(TCPCRYPT_HOST_IP)',
    ...settings.clusterCidrs.map((cidr) => `--cluster-cidr=${cidr}`),
    ...(settings.strict ? ['--strict'] : []),
    ...settings.args,
  ];
}

export function sidecarVolumes(api: boolean): readonly Volume[] {
  return [
    { name: STATE_VOLUME, emptyDir: { medium: 'Memory', sizeLimit: '64Mi' } },
    {
      name: POD_VOLUME,
      downwardAPI: {
        defaultMode: MODE_READ,
        items: [{ path: 'labels', fieldRef: { apiVersion: 'v1', fieldPath: 'metadata.labels' } }],
      },
    },
    { name: NO_TOKEN_VOLUME, emptyDir: { medium: 'Memory', sizeLimit: '64Ki' } },
    ...(api ? [{ name: API_VOLUME, emptyDir: { medium: 'Memory', sizeLimit: '1Mi' } }] : []),
  ];
}

/** In an application's container. Read-only: a socket can be connected to all the same. */
export const apiMount: VolumeMount = { name: API_VOLUME, mountPath: API_DIR, readOnly: true };
