/**
 * AdmissionReview (admission.k8s.io/v1) to values and back. Strict: what the API server would not send is refused, and
 * the request then fails as if nobody had answered.
 */
import { TcpcryptError } from '../../errors/catalogue.ts';
import type { PatchOperation } from '../injection/patch.ts';
import { isObject } from '../injection/pod.ts';

const VERSION = 'admission.k8s.io/v1';
const MAX_UID = 64;
/** The API server cuts all of a response's warnings at 4096 bytes together, and each at 256 characters for its client. */
const MAX_WARNING = 256;
/** RFC 1123 label, as every namespace's name. */
const NAMESPACE_NAME = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;

export interface PodReview {
  readonly uid: string;
  readonly namespace: string;
  readonly dryRun: boolean;
  /** `readPod` is the next border. */
  readonly pod: unknown;
}

export interface Verdict {
  readonly allowed: boolean;
  /** Where it is not allowed: for whoever made the pod. */
  readonly message?: string;
  readonly patch?: readonly PatchOperation[];
  readonly warnings?: readonly string[];
  /** For the API server's audit log. */
  readonly audit: Readonly<Record<string, string>>;
}

/** Throws ERR_TCPCRYPT_BAD_REQUEST. */
export function parseReview(text: string): PodReview {
  const review = parseJson(text);
  if (!isObject(review) || review['kind'] !== 'AdmissionReview' || review['apiVersion'] !== VERSION) {
    throw refused(`this is no AdmissionReview of ${VERSION}`);
  }
  const { request } = review;
  if (!isObject(request)) throw refused('request is missing');
  const { uid, namespace, operation, resource, dryRun, object } = request;
  if (typeof uid !== 'string' || uid === '' || uid.length > MAX_UID)
    throw refused('request.uid is not a UID');
  if (!isPods(resource)) throw refused('request.resource is not pods of v1');
  if (operation !== 'CREATE') throw refused('request.operation is not CREATE');
  if (typeof namespace !== 'string' || !NAMESPACE_NAME.test(namespace)) {
    throw refused('request.namespace is not the name of a namespace');
  }
  return { uid, namespace, dryRun: dryRun === true, pod: object };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw refused('the body is not JSON');
  }
}

function isPods(resource: unknown): boolean {
  return (
    isObject(resource) &&
    resource['resource'] === 'pods' &&
    resource['version'] === 'v1' &&
    resource['group'] === ''
  );
}

export function writeReview(
  uid: string,
  { allowed, message, patch = [], warnings = [], audit }: Verdict,
): unknown {
  return {
    apiVersion: VERSION,
    kind: 'AdmissionReview',
    response: {
      uid,
      allowed,
      auditAnnotations: audit,
      ...(message !== undefined && { status: { code: 403, reason: 'Forbidden', message } }),
      ...(warnings.length > 0 && { warnings: warnings.map((warning) => warning.slice(0, MAX_WARNING)) }),
      ...(patch.length > 0 && {
        patchType: 'JSONPatch',
        patch: Buffer.from(JSON.stringify(patch)).toString('base64'),
      }),
    },
  };
}

function refused(message: string): TcpcryptError {
  return new TcpcryptError('ERR_TCPCRYPT_BAD_REQUEST', message);
}
