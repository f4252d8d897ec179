/**
 * etcd and kube-apiserver, as command lines: alone on loopback for the operator's tests (`control-plane.ts`) and in
 * the control machine of a whole cluster (`cluster.ts`). Users sign in with tokens; only the API server itself needs
 * certificates.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CertificateAuthority as Authority, type CertificateAuthority } from './pki.ts';
import { ETCD, requireProgram } from './programs.ts';

export interface User {
  readonly name: string;
  readonly groups: readonly string[];
}

export const ADMIN: User = { name: 'admin', groups: ['system:masters'] };

export interface ApiServerOptions {
  /** For certificates, tokens, etcd's data and kubeconfigs. */
  readonly folder: string;
  /** Where it listens, and what it tells others. */
  readonly address: string;
  readonly port: number;
  /** Loopback ports for etcd: clients', and peers' of which there are none. */
  readonly etcdPorts: readonly [number, number];
  /** One for each family. */
  readonly serviceCidrs: readonly string[];
  /** The API server's own, the first of each service range. */
  readonly serviceAddresses: readonly string[];
  /** Besides `ADMIN`. */
  readonly users?: readonly User[];
  readonly enableAdmissionPlugins?: readonly string[];
  readonly disableAdmissionPlugins?: readonly string[];
  /** More flags for kube-apiserver. */
  readonly flags?: readonly string[];
}

export interface CommandLine {
  readonly program: string;
  readonly args: readonly string[];
}

export interface ApiServer {
  readonly etcd: CommandLine;
  readonly apiServer: CommandLine;
  readonly url: string;
  readonly authority: CertificateAuthority;
  readonly serviceAccountKey: string;
  /** Writes a user's kubeconfig into the folder and returns its path. */
  kubeconfig(user: User): string;
  token(user: User): string;
}

/** Writes what the two need to start. */
export function prepareApiServer(options: ApiServerOptions): ApiServer {
  const { folder, address, port, etcdPorts, users = [] } = options;
  const authority = new Authority(join(folder, 'pki'));
  const names = ['kubernetes', 'kubernetes.default', 'kubernetes.default.svc', 'localhost'];
  const serving = authority.issue('kube-apiserver', {
    commonName: 'kube-apiserver',
    names: [
      ...names.map((name) => `DNS:${name}`),
      ...[address, '127.0.0.1', ...options.serviceAddresses].map((each) => `IP:${each}`),
    ],
  });
  const toKubelet = authority.issue('to-kubelet', { commonName: 'admin', organization: 'system:masters' });
  const frontProxy = authority.issue('front-proxy', { commonName: 'front-proxy' });
  const serviceAccountKey = authority.signingKey('service-account');
  const tokens = new Map([ADMIN, ...users].map((user) => [user.name, randomBytes(16).toString('hex')]));
  const tokenFile = join(folder, 'pki', 'tokens.csv');
  writeFileSync(
    tokenFile,
    [ADMIN, ...users]
      .map(({ name, groups }) => `${tokens.get(name)},${name},${name},"${groups.join(',')}"\n`)
      .join(''),
    { mode: 0o600 },
  );
  const url = `https://${address}:${port}`;
  const [clientPort, peerPort] = etcdPorts;
  const etcdUrl = `http://127.0.0.1:${clientPort}`;
  const etcdData = join(folder, 'etcd');
  mkdirSync(etcdData, { recursive: true, mode: 0o700 });
  const list = (flag: string, values: readonly string[] = []): string[] =>
    values.length > 0 ? [`--${flag}=${values.join(',')}`] : [];
  const token = ({ name }: User): string => tokens.get(name)!;
  return {
    url,
    authority,
    serviceAccountKey,
    token,
    etcd: {
      program: ETCD,
      args: [
        `--data-dir=${etcdData}`,
        `--listen-client-urls=${etcdUrl}`,
        `--advertise-client-urls=${etcdUrl}`,
        `--listen-peer-urls=http://127.0.0.1:${peerPort}`,
        // What a test writes need not survive a power failure.
        '--unsafe-no-fsync',
      ],
    },
    apiServer: {
      program: requireProgram('kube-apiserver'),
      args: [
        `--etcd-servers=${etcdUrl}`,
        `--bind-address=${address}`,
        `--advertise-address=${address}`,
        `--secure-port=${port}`,
        `--cert-dir=${join(folder, 'pki')}`,
        `--tls-cert-file=${serving.certificate}`,
        `--tls-private-key-file=${serving.key}`,
        `--client-ca-file=${authority.pair.certificate}`,
        `--kubelet-client-certificate=${toKubelet.certificate}`,
        `--kubelet-client-key=${toKubelet.key}`,
        '--kubelet-preferred-address-types=InternalIP',
        `--requestheader-client-ca-file=${authority.pair.certificate}`,
        '--requestheader-allowed-names=front-proxy',
        '--requestheader-username-headers=X-Remote-User',
        '--requestheader-group-headers=X-Remote-Group',
        '--requestheader-extra-headers-prefix=X-Remote-Extra-',
        `--proxy-client-cert-file=${frontProxy.certificate}`,
        `--proxy-client-key-file=${frontProxy.key}`,
        '--service-account-issuer=https://kubernetes.default.svc',
        `--service-account-key-file=${serviceAccountKey}`,
        `--service-account-signing-key-file=${serviceAccountKey}`,
        `--service-cluster-ip-range=${options.serviceCidrs.join(',')}`,
        `--token-auth-file=${tokenFile}`,
        '--authorization-mode=Node,RBAC',
        '--allow-privileged=true',
        ...list('enable-admission-plugins', options.enableAdmissionPlugins),
        ...list('disable-admission-plugins', options.disableAdmissionPlugins),
        ...(options.flags ?? []),
      ],
    },
    kubeconfig(user) {
      const file = join(folder, `${user.name.replaceAll(':', '-')}.kubeconfig`);
      const ca = readFileSync(authority.pair.certificate).toString('base64');
      writeFileSync(file, kubeconfigText(url, ca, user.name, token(user)), { mode: 0o600 });
      return file;
    },
  };
}

/** A kubeconfig is YAML, of which JSON is a part. */
function kubeconfigText(server: string, ca: string, user: string, token: string): string {
  const name = 'tcpcrypt-test';
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name, cluster: { server, 'certificate-authority-data': ca } }],
    users: [{ name: user, user: { token } }],
    contexts: [{ name, context: { cluster: name, user } }],
    'current-context': name,
  });
}
