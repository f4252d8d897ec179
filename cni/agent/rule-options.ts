/**
 * Which rules a pod needs: those that its sidecar was told to serve. The arguments of the sidecar's container say so,
 * and its pod keeps them for months, whatever the release's values have become.
 */
import { parseArgs } from 'node:util';
import { TcpcryptError } from '../../errors/catalogue.ts';
import { buildRules, type PortRange, queueRanges, type RuleOptions } from '../../netfilter/rules.ts';

/** `tcpcrypt run --first-queue`, where the arguments do not say. */
const DEFAULT_FIRST_QUEUE = '5440';

const declared = {
  'first-queue': { type: 'string', default: DEFAULT_FIRST_QUEUE },
  workers: { type: 'string', default: '1' },
  'mark-mask': { type: 'string' },
  'inject-mark': { type: 'string' },
  strict: { type: 'boolean' },
  encoding: { type: 'string', default: 'experimental' },
  'exclude-port': { type: 'string', multiple: true },
  'exclude-cidr': { type: 'string', multiple: true },
} as const;

/** Without `dataWhenNoState` and `untrackOthers`, which depend on the namespace. */
export type SidecarRules = Omit<RuleOptions, 'dataWhenNoState' | 'untrackOthers'>;

/**
 * `args` are those of `tcpcrypt run`; options that do not concern the rules are passed over, also ones that this
 * version does not know. Throws ERR_TCPCRYPT_USAGE.
 */
export function sidecarRules(args: readonly string[]): SidecarRules {
  const { values } = parseArgs({ args: relevant(args), options: declared });
  const first = whole('first-queue', values['first-queue']);
  const rules: SidecarRules = {
    ...(values['mark-mask'] !== undefined && { mask: whole('mark-mask', values['mark-mask']) }),
    ...(values['inject-mark'] !== undefined && { injectMark: whole('inject-mark', values['inject-mark']) }),
    ...queueRanges(first, whole('workers', values.workers)),
    strict: values.strict === true,
    optionKinds: values.encoding === 'legacy' ? [253, 69, 70] : [253],
    excludePorts: (values['exclude-port'] ?? []).map(portRange),
    excludeCidrs: values['exclude-cidr'] ?? [],
  };
  // Says what is wrong, here and not in the middle of an installation.
  buildRules(4, { ...rules, dataWhenNoState: true });
  return rules;
}

/** What is declared, always as `--name=value`. Every other option is passed over, its value too. */
function relevant(args: readonly string[]): string[] {
  const found: string[] = [];
  for (let i = 0; i < args.length; i++) {
    const [, name = '', value] = /^--([a-z-]+)(=.*)?$/s.exec(args[i]!) ?? [];
    if (!Object.hasOwn(declared, name)) continue;
    if (name === 'strict') found.push('--strict');
    else found.push(`--${name}${value ?? `=${args[++i] ?? ''}`}`);
  }
  return found;
}

function whole(name: string, text: string): number {
  if (!/^(\d+|0x[0-9a-fA-F]+)$/.test(text)) {
    throw new TcpcryptError('ERR_TCPCRYPT_USAGE', `--${name} ${text} is not a number`);
  }
  return Number(text);
}

function portRange(text: string): PortRange {
  const match = /^(\d{1,5})(?:[:-](\d{1,5}))?$/.exec(text);
  if (match === null) throw new TcpcryptError('ERR_TCPCRYPT_USAGE', `--exclude-port ${text} is no port`);
  return { port: Number(match[1]), endPort: Number(match[2] ?? match[1]) };
}
