/**
 * The webhook's certificate in the cluster: the Secret that every replica serves from, and the caBundle that makes the
 * API server trust it. The leader makes, renews and publishes; whoever else changes the caBundle is corrected within
 * seconds (Helm, which renders the configurations, leaves it alone).
 */
import type { KubernetesObject } from '@kubernetes/client-node';
import { TcpcryptError } from '../../errors/catalogue.ts';
import { type Informer, startInformer } from '../../kubernetes/informer.ts';
import { errorFields, type Logger } from '../../observability/log.ts';
import { type Cluster, kubernetesError, statusOf, within } from '../cluster/client.ts';
import type { Metrics } from '../metrics.ts';
import { bundleOf, endOf, isUsable, type Pair, type Pairs, renewed } from './pair.ts';

export interface CertificateSettings {
  readonly namespace: string;
  readonly service: string;
  readonly secret: string;
  readonly configuration: string;
  readonly validMs: number;
}

const TIMEOUT_MS = 10_000;
const LOOK_EVERY_MS = 10_000;
/** Until every API server has seen a caBundle. */
const SETTLE_MS = 60_000;

type Secret = KubernetesObject & { data?: Record<string, string> };

/** The names under which the API server calls the Service. */
export function dnsNames({ service, namespace }: CertificateSettings): string[] {
  return [`${service}.${namespace}.svc`, `${service}.${namespace}.svc.cluster.local`];
}

/** Every replica: calls `show` with each certificate that is new and usable. */
export function watchCertificate(
  cluster: Cluster,
  settings: CertificateSettings,
  show: (pair: Pair) => void,
  metrics: Metrics,
  log: Logger,
): Informer<Secret> {
  const { namespace, secret } = settings;
  const informer = startInformer<Secret>(
    cluster.config,
    {
      what: 'certificate',
      path: `/api/v1/namespaces/${namespace}/secrets`,
      list: (page) => cluster.core.listNamespacedSecret({ ...page, namespace }),
      reduce: (object) => object as Secret,
      fieldSelector: `metadata.name=${secret}`,
    },
    log,
  );
  let shown: string | undefined;
  informer.on('change', ({ data }) => {
    const pair = readPair(data, 'tls');
    if (pair === undefined || pair.certificate === shown) return;
    if (!isUsable(pair, dnsNames(settings), Date.now())) {
      throw new TcpcryptError(
        'ERR_TCPCRYPT_CERTIFICATE',
        `Secret ${secret}: tls.crt has ended, is not for ${dnsNames(settings)[0]}, or tls.key is not its key`,
      );
    }
    shown = pair.certificate;
    metrics.set('tcpcrypt_operator_certificate_expiry_timestamp_seconds', endOf(pair) / 1000);
    show(pair);
  });
  return informer;
}

/** The leader: keeps Secret and caBundle as they should be. `informer` is what `watchCertificate` returned. */
export async function keepCertificate(
  cluster: Cluster,
  settings: CertificateSettings,
  informer: Informer<Secret>,
  stop: AbortSignal,
  metrics: Metrics,
  log: Logger,
): Promise<void> {
  const { validMs } = settings;
  const lifetimes = { validMs, renewBeforeMs: validMs / 3, settleMs: Math.min(SETTLE_MS, validMs / 10) };
  const lookEveryMs = Math.min(LOOK_EVERY_MS, validMs / 40);
  let trustedSince: number | undefined;
  const look = async (): Promise<boolean> => {
    const before = readPairs(informer.get(settings.secret, settings.namespace)?.data);
    const pairs = await renewed(before, dnsNames(settings), Date.now(), lifetimes, trustedSince);
    const changed = pairs !== before;
    if (changed) await within(TIMEOUT_MS, cluster.apply(secretOf(settings, pairs)));
    // At the change itself the old one stays trusted: a replica may show it for a moment longer.
    const old = pairs.next ?? before?.current;
    const published = await publish(cluster, settings, bundleOf(old ? { ...pairs, next: old } : pairs));
    trustedSince =
      pairs.next === undefined ? undefined : published ? Date.now() : (trustedSince ?? Date.now());
    if (changed)
      log.info(
        { ends: new Date(endOf(pairs.next ?? pairs.current)) },
        'a certificate was made or put to use',
      );
    return changed || published;
  };

  await informer.synced;
  while (!stop.aborted) {
    try {
      const result = (await look()) ? 'changed' : 'unchanged';
      metrics.count('tcpcrypt_operator_reconciles_total', { controller: 'certificate', result });
    } catch (error) {
      metrics.count('tcpcrypt_operator_reconciles_total', { controller: 'certificate', result: 'error' });
      log.warn(errorFields(kubernetesError(error)), 'the certificate could not be looked after; tried again');
    }
    await pause(lookEveryMs, stop);
  }
}

/** True if a caBundle was not as it should be. A configuration that is not there is somebody's decision. */
async function publish(
  cluster: Cluster,
  { configuration }: CertificateSettings,
  bundle: string,
): Promise<boolean> {
  const caBundle = Buffer.from(bundle).toString('base64');
  const found = await within(
    TIMEOUT_MS,
    Promise.all([
      existing(cluster.admission.readMutatingWebhookConfiguration({ name: configuration })),
      existing(cluster.admission.readValidatingWebhookConfiguration({ name: configuration })),
    ]),
  );
  let changed = false;
  for (const [i, kind] of (
    ['MutatingWebhookConfiguration', 'ValidatingWebhookConfiguration'] as const
  ).entries()) {
    const webhooks = found[i]?.webhooks ?? [];
    if (webhooks.every(({ clientConfig }) => clientConfig.caBundle === caBundle)) continue;
    await within(
      TIMEOUT_MS,
      cluster.apply({
        apiVersion: 'admissionregistration.k8s.io/v1',
        kind,
        metadata: { name: configuration },
        webhooks: webhooks.map(({ name }) => ({ name, clientConfig: { caBundle } })),
      }),
    );
    changed = true;
  }
  return changed;
}

async function existing<T>(request: Promise<T>): Promise<T | undefined> {
  try {
    return await request;
  } catch (error) {
    if (statusOf(error) === 404) return undefined;
    throw error;
  }
}

function readPairs(data: Record<string, string> | undefined): Pairs | undefined {
  const current = readPair(data, 'tls');
  const next = readPair(data, 'next');
  return current && (next === undefined ? { current } : { current, next });
}

function readPair(data: Record<string, string> | undefined, name: 'tls' | 'next'): Pair | undefined {
  const certificate = data?.[`${name}.crt`];
  const key = data?.[`${name}.key`];
  if (!certificate || !key) return undefined;
  return { certificate: fromBase64(certificate), key: fromBase64(key) };
}

function secretOf({ namespace, secret }: CertificateSettings, { current, next }: Pairs) {
  const data = {
    'tls.crt': toBase64(current.certificate),
    'tls.key': toBase64(current.key),
    ...(next && { 'next.crt': toBase64(next.certificate), 'next.key': toBase64(next.key) }),
  };
  return { apiVersion: 'v1', kind: 'Secret', metadata: { name: secret, namespace }, data };
}

const toBase64 = (text: string): string => Buffer.from(text).toString('base64');
const fromBase64 = (text: string): string => Buffer.from(text, 'base64').toString();

function pause(ms: number, stop: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    stop.addEventListener('abort', () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
