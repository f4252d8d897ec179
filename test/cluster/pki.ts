/** A certificate authority and what it signs, with openssl, for a cluster that lives as long as a test. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';

const DAYS = '30';

export interface KeyPair {
  readonly certificate: string;
  readonly key: string;
}

export interface Subject {
  readonly commonName: string;
  /** Groups, to the API server. */
  readonly organization?: string;
  /** `DNS:…` and `IP:…`, for a server's certificate. */
  readonly names?: readonly string[];
}

function openssl(...args: string[]): void {
  const done = spawnSync('openssl', args, { encoding: 'utf8' });
  if (done.error) throw done.error;
  if (done.status !== 0) throw new Error(`openssl ${args[0]}: ${done.stderr.trim()}`);
}

const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];

/** Files of one authority in one folder. Made once: what is there already stays. */
export class CertificateAuthority {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    if (existsSync(this.pair.certificate)) return;
    const { certificate, key } = this.pair;
    const subject = [
      '-subj',
      '/CN=tcpcrypt-test',
      '-addext',
      'keyUsage=critical,keyCertSign,digitalSignature',
    ];
    openssl('req', '-x509', ...newKey, '-days', DAYS, ...subject, '-keyout', key, '-out', certificate);
  }

  get pair(): KeyPair {
    return this.#paths('ca');
  }

  /** A certificate for servers and clients alike. */
  issue(name: string, { commonName, organization, names = [] }: Subject): KeyPair {
    const { certificate, key } = this.#paths(name);
    const subject = `${organization ? `/O=${organization}` : ''}/CN=${commonName}`;
    openssl(
      ...['req', '-x509', ...newKey, '-days', DAYS, '-subj', subject, '-keyout', key, '-out', certificate],
      ...['-CA', this.pair.certificate, '-CAkey', this.pair.key],
      ...[
        '-addext',
        'basicConstraints=critical,CA:FALSE',
        '-addext',
        'extendedKeyUsage=serverAuth,clientAuth',
      ],
      ...(names.length > 0 ? ['-addext', `subjectAltName=${names.join(',')}`] : []),
    );
    return { certificate, key };
  }

  /** A key that signs service account tokens. */
  signingKey(name: string): string {
    const { key } = this.#paths(name);
    // In SEC 1's form: the API server does not derive a public key from PKCS #8.
    openssl('ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', key);
    return key;
  }

  #paths(name: string): KeyPair {
    return { certificate: join(this.#folder, `${name}.crt`), key: join(this.#folder, `${name}.key`) };
  }
}
