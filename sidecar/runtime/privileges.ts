/** Whether this process may do what it is about to. */
import { readFileSync } from 'node:fs';
import { TcpcryptError } from '../../errors/catalogue.ts';

/** linux/capability.h. */
const capabilities = { NET_ADMIN: 12, NET_RAW: 13 } as const;

/** Throws ERR_TCPCRYPT_NOT_ROOT, naming what is missing. */
export function requireCapabilities(status = readFileSync('/proc/self/status', 'utf8')): void {
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`);
  const missing = Object.entries(capabilities).filter(([, bit]) => ((effective >> BigInt(bit)) & 1n) === 0n);
  if (missing.length === 0) return;
  const names = missing.map(([name]) => name).join(' and ');
  throw new TcpcryptError('ERR_TCPCRYPT_NOT_ROOT', `the capability ${names} is missing; run it as root`);
}
