/** nginx in a namespace, in a folder of its own. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Host } from './namespaces.ts';
import { ended, eventually } from './processes.ts';

export const HTTP = 80;
/** HTTP/2 without TLS, with prior knowledge. */
export const HTTP2 = 82;

export interface Nginx {
  /** The folder whose files it serves. */
  readonly root: string;
  stop(): Promise<void>;
}

/** Serves `files` (name to contents) on ports HTTP and HTTP2. */
export async function startNginx(
  host: Host,
  files: Readonly<Record<string, string | Uint8Array>>,
): Promise<Nginx> {
  const folder = mkdtempSync(join(tmpdir(), 'tcpcrypt-nginx-'));
  const root = join(folder, 'files');
  mkdirSync(root);
  for (const [name, contents] of Object.entries(files)) writeFileSync(join(root, name), contents);
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (name) => `${name}_temp_path ${folder}/${name};`,
  );
  writeFileSync(
    join(folder, 'nginx.conf'),
    `user root; daemon off; master_process off; pid ${folder}/pid; error_log ${folder}/error.log;
     events { worker_connections 4096; }
     http {
       access_log off; root ${root}; keepalive_requests 100000; ${temporary.join(' ')}
       server { listen ${HTTP}; listen [::]:${HTTP}; }
       server { listen ${HTTP2} http2; listen [::]:${HTTP2} http2; }
     }`,
  );
  const child = host.spawn('nginx', ['-c', join(folder, 'nginx.conf')], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    said += chunk;
  });
  await eventually(() => {
    if (child.exitCode !== null) throw new Error(`nginx ended: ${said}`);
    // Over loopback, which the rewriter never sees.
    return (
      host.run('curl', ['-s', '-o', '/dev/null', `http://127.0.0.1:${HTTP}/`], { allowFailure: true })
        .status === 0
    );
  }, 'nginx answers');
  return {
    root,
    async stop() {
      await ended(child, 'SIGTERM');
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
