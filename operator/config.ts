/**
 * The operator's configuration file, which the chart writes from its values. Read once at start; a change of values
 * starts new replicas. Invariant: a `Config` is complete and valid.
 */
import { readFileSync } from 'node:fs';
import { TcpcryptError } from '../errors/catalogue.ts';
import { checkPolicy } from '../policy/document.ts';
import { parseDurationMs, parseQuantity } from '../policy/quantity.ts';
import { parseText } from '../policy/text.ts';
import { show, Validator } from '../policy/validate.ts';
import type { DecisionSettings } from './injection/decision.ts';
import type { InjectionSettings } from './injection/mutation.ts';

export interface Config {
  readonly webhook: {
    readonly port: number;
    /** Of the Service; its DNS names are the certificate's. */
    readonly service: string;
    /** The name of the mutating and of the validating configuration. */
    readonly configuration: string;
    readonly secret: string;
    /** Operator: made, trusted and renewed here. External: somebody else (cert-manager) does all that. */
    readonly certificates: 'Operator' | 'External';
    readonly certificateValidMs: number;
  };
  readonly metricsPort: number;
  readonly decision: DecisionSettings;
  readonly injection: InjectionSettings;
  /** How long injection stays suspended in a namespace before it is tried again. */
  readonly suspendForMs: number;
  /** The default policy: plain values that `policy/document.ts` has accepted. */
  readonly policy: unknown;
  /** ConfigMaps of the chart in the release's namespace. */
  readonly suspensionsConfigMap: string;
  /** What the operator makes is removed with it. */
  readonly ownerConfigMap: string;
  readonly lease: string;
}

const MAX_CERTIFICATE_MS = 10 * 365 * 24 * 3_600_000;
const NAME = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/;
const CIDR = /^[0-9a-fA-F.:]+\/\d{1,3}$/;

/** Throws ERR_TCPCRYPT_CONFIG_INVALID, whose message lists every problem. `namespace` is the release's. */
export function readConfig(file: string, namespace: string): Config {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw invalid([`${file} cannot be read: ${(error as Error).message}`]);
  }
  return parseConfig(text, namespace);
}

export function parseConfig(text: string, namespace: string): Config {
  const parsed = parseText(text);
  if ('problem' in parsed) throw invalid([`the file ${parsed.problem}`]);
  const v = new StrictValidator();
  const config = read(v, parsed.value, namespace);
  if (v.problems.length > 0) throw invalid(v.problems);
  return config;
}

function invalid(problems: readonly string[]): TcpcryptError {
  return new TcpcryptError('ERR_TCPCRYPT_CONFIG_INVALID', problems.join('; '));
}

/** A field that is not known is an error here: the chart writes for this very version. */
class StrictValidator extends Validator {
  override warn(path: string, text: string): void {
    this.problem(path, text);
  }

  text(path: string, value: unknown, pattern: RegExp, fallback?: string): string {
    const given = value ?? fallback;
    if (typeof given === 'string' && pattern.test(given)) return given;
    this.problem(path, given === undefined ? 'is missing' : `is not allowed: ${show(given)}`);
    return '';
  }

  texts(path: string, value: unknown, pattern: RegExp, fallback: readonly string[] = []): readonly string[] {
    if (value === undefined) return fallback;
    return this.list(path, value, 256).map((each, i) => this.text(`${path}[${i}]`, each, pattern));
  }

  resource(path: string, value: unknown, fallback: string): string {
    const given = value ?? fallback;
    if ((typeof given === 'string' || typeof given === 'number') && (parseQuantity(given) ?? 0) > 0)
      return String(given);
    this.problem(path, `must be a quantity above 0, not ${show(given)}`);
    return '';
  }

  duration(path: string, value: unknown, fallbackMs: number, maxMs: number): number {
    const inRange = (ms: number) => ms >= 1000 && ms <= maxMs;
    return this.quantity(path, value, parseDurationMs, inRange, 'a duration from 1s', fallbackMs);
  }
}

function read(v: StrictValidator, value: unknown, namespace: string): Config {
  const f = v.fields('config', value, ['webhook', 'metricsPort', 'injection', 'policy', 'names']);
  const names = v.fields('names', f.names, ['suspensions', 'owner', 'lease']);
  const policy = f.policy ?? {};
  const checked = checkPolicy(policy);
  if ('problems' in checked) for (const problem of checked.problems) v.problem('policy', problem);
  const strict = 'document' in checked && checked.document.mode === 'Strict';
  return {
    webhook: readWebhook(v, f.webhook),
    metricsPort: v.integer('metricsPort', f.metricsPort, 1, 65_535, 19_092),
    ...readInjection(v, f.injection, namespace, policy, strict),
    policy,
    suspensionsConfigMap: v.text('names.suspensions', names.suspensions, NAME, 'tcpcrypt-suspensions'),
    ownerConfigMap: v.text('names.owner', names.owner, NAME, 'tcpcrypt-operator'),
    lease: v.text('names.lease', names.lease, NAME, 'tcpcrypt-operator'),
  };
}

function readWebhook(v: StrictValidator, value: unknown): Config['webhook'] {
  const f = v.fields('webhook', value, [
    'port',
    'service',
    'configuration',
    'secret',
    'certificates',
    'certificateLifetime',
  ]);
  return {
    port: v.integer('webhook.port', f.port, 1, 65_535, 10_250),
    service: v.text('webhook.service', f.service, NAME, 'tcpcrypt-webhook'),
    configuration: v.text('webhook.configuration', f.configuration, NAME, 'tcpcrypt'),
    secret: v.text('webhook.secret', f.secret, NAME, 'tcpcrypt-webhook'),
    certificates: v.oneOf('webhook.certificates', f.certificates, ['Operator', 'External'], 'Operator'),
    certificateValidMs: v.duration(
      'webhook.certificateLifetime',
      f.certificateLifetime,
      90 * 24 * 3_600_000,
      MAX_CERTIFICATE_MS,
    ),
  };
}

function readInjection(
  v: StrictValidator,
  value: unknown,
  namespace: string,
  policy: unknown,
  strict: boolean,
): Pick<Config, 'decision' | 'injection' | 'suspendForMs'> {
  const f = v.fields('injection', value, [
    'default',
    'image',
    'imagePullPolicy',
    'args',
    'clusterCidrs',
    'excludedNamespaces',
    'excludedRuntimeClasses',
    'architectures',
    'metricsPort',
    'resources',
    'guaranteedResources',
    'suspendFor',
  ]);
  const resources = v.fields('injection.resources', f.resources, ['cpu', 'memory', 'memoryLimit']);
  const guaranteed = v.fields('injection.guaranteedResources', f.guaranteedResources, ['cpu', 'memory']);
  return {
    decision: {
      default: v.oneOf('injection.default', f.default, ['enabled', 'disabled'], 'enabled'),
      excludedNamespaces: [
        'kube-system',
        namespace,
        ...v.texts('injection.excludedNamespaces', f.excludedNamespaces, NAME),
      ],
      runtimeClasses: v.texts(
        'injection.excludedRuntimeClasses',
        f.excludedRuntimeClasses,
        /^[-a-z0-9.]+\*?$/,
        ['gvisor', 'runsc', 'kata*'],
      ),
      architectures: v.texts('injection.architectures', f.architectures, /^[a-z0-9]+$/, ['amd64', 'arm64']),
    },
    injection: {
      image: v.text('injection.image', f.image, /^\S{1,512}$/),
      imagePullPolicy: v.oneOf(
        'injection.imagePullPolicy',
        f.imagePullPolicy,
        ['Always', 'IfNotPresent', 'Never'],
        'IfNotPresent',
      ),
      args: v.texts('injection.args', f.args, /^--[^\0]*$/),
      clusterCidrs: v.texts('injection.clusterCidrs', f.clusterCidrs, CIDR),
      policy,
      strict,
      metricsPort: v.integer('injection.metricsPort', f.metricsPort, 1, 65_535, 19_090),
      resources: {
        cpu: v.resource('injection.resources.cpu', resources.cpu, '10m'),
        memory: v.resource('injection.resources.memory', resources.memory, '96Mi'),
        memoryLimit: v.resource('injection.resources.memoryLimit', resources.memoryLimit, '256Mi'),
        guaranteed: {
          cpu: v.resource('injection.guaranteedResources.cpu', guaranteed.cpu, '500m'),
          memory: v.resource('injection.guaranteedResources.memory', guaranteed.memory, '256Mi'),
        },
      },
    },
    suspendForMs: v.duration('injection.suspendFor', f.suspendFor, 3_600_000, 7 * 24 * 3_600_000),
  };
}
