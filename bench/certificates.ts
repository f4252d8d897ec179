/** A certificate authority and one certificate for both ends, for the peers that use TLS. Made anew for each run. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Certificates {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  /** Certificate and key in one file. */
  readonly pem: string;
}

const EC_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];

/** Writes them into a folder, or finds them there. ECDSA on P-256, name `bench`, good for both ends. */
export function makeCertificates(folder: string): Certificates {
  const [ca, caKey, cert, key, pem] = ['ca.pem', 'ca.key', 'cert.pem', 'cert.key', 'both.pem'].map((name) =>
    join(folder, name),
  );
  if (!existsSync(pem)) {
    const issue = (args: readonly string[]) =>
      execFileSync('openssl', ['req', '-x509', ...EC_KEY, '-days', '2', ...args], { stdio: 'pipe' });
    issue(['-subj', '/CN=bench authority', '-keyout', caKey, '-out', ca]);
    issue([
      ...['-subj', '/CN=bench', '-addext', 'subjectAltName=DNS:bench', '-CA', ca, '-CAkey', caKey],
      ...['-addext', 'basicConstraints=critical,CA:FALSE', '-keyout', key, '-out', cert],
    ]);
    writeFileSync(pem, readFileSync(cert, 'utf8') + readFileSync(key, 'utf8'), { mode: 0o600 });
  }
  return { ca, cert, key, pem };
}
