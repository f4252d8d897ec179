/**
 * Istio's own rules in a pod, put in by Istio's own installer as its init container calls it, with nginx in Envoy's
 * place: it serves Envoy's two ports as Envoy's user. Whatever we do there, the application's traffic goes through.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { outcomeOf } from '../../kernel/support/outcome.ts';
import { eventually } from '../../kernel/support/processes.ts';
import { MESH_IMAGE, meshImage } from '../images.ts';
import { useChart } from '../support/chart.ts';
import { pod, type TestNamespace, WEB_SERVER } from '../support/pods.ts';
import { sharedCluster as cluster, skip } from '../support/shared.ts';
import { Sidecar } from '../support/sidecar.ts';

const PROXY_USER = 1337;
const OUTBOUND_PORT = 15001;
const INBOUND_PORT = 15006;

/** What comes to either port goes to where it was meant for; a header shows that it passed here. */
const PROXY_CONFIG = `
daemon off; pid /tmp/nginx.pid; error_log /dev/stderr;
events {}
http {
  access_log off;
  client_body_temp_path /tmp/1; proxy_temp_path /tmp/2; fastcgi_temp_path /tmp/3; uwsgi_temp_path /tmp/4; scgi_temp_path /tmp/5;
  server { listen ${OUTBOUND_PORT}; location / { proxy_pass http://$http_host; add_header x-out proxied; } }
  server { listen ${INBOUND_PORT}; location / { proxy_pass http://127.0.0.1:80; add_header x-in proxied; } }
}`;

/** Arguments as Istio's injector writes them, but for the ports and the user above. */
const INSTALL = [
  ...['istio-iptables', '-p', String(OUTBOUND_PORT), '-z', String(INBOUND_PORT), '-u', String(PROXY_USER)],
  ...['-m', 'REDIRECT', '-i', '*', '-x', '', '-b', '*', '-d', '15090,15021,15020'],
];

/** A pod of that mesh, whose rules are put in by an init container of this name. */
function meshed(name: string, init: string): object {
  const image = { image: MESH_IMAGE, imagePullPolicy: 'Never' };
  const capabilities = { add: ['NET_ADMIN', 'NET_RAW'], drop: ['ALL'] };
  const installer = {
    name: init,
    ...image,
    command: INSTALL,
    securityContext: { runAsUser: 0, capabilities },
  };
  const proxy = {
    ...{ name: 'proxy', ...image, env: [{ name: 'CONFIG', value: PROXY_CONFIG }] },
    command: ['sh', '-c', 'printf "%s" "$CONFIG" >/tmp/nginx.conf; exec nginx -c /tmp/nginx.conf'],
    securityContext: { runAsUser: PROXY_USER, runAsGroup: PROXY_USER },
    readinessProbe: {
      exec: { command: ['curl', '-sf', `http://127.0.0.1:${INBOUND_PORT}/`] },
      periodSeconds: 1,
    },
  };
  // Of the API server's order: the application is `main`, the proxy comes after.
  const main = { name: 'main', ...image, command: WEB_SERVER };
  return pod({ name, node: 'node1', spec: { initContainers: [installer], containers: [main, proxy] } });
}

const context = useChart('mesh-test', async (namespace) => {
  cluster.loadImage(await meshImage());
  await namespace.start([
    pod({ name: 'client', node: 'node2' }),
    pod({ name: 'web', node: 'node2', command: WEB_SERVER }),
    meshed('istio', 'istio-init'),
    meshed('unknown', 'redirect'),
  ]);
});

const headers = (namespace: TestNamespace, from: string, to: string): string =>
  namespace.exec(from, ['curl', '-sSfi', '--max-time', '20', `http://${namespace.address(to, 4)}/`]).stdout;
/** Into a pod, and out of it, each time through its proxy. */
const into = (namespace: TestNamespace, name: string): void =>
  assert.match(headers(namespace, 'client', name), new RegExp(`x-in: proxied.*\\n${name}`, 's'));
const outOf = (namespace: TestNamespace, name: string): void =>
  assert.match(headers(namespace, name, 'web'), /x-out: proxied.*\nweb/s);

test('a pod of Istio is left alone, and an event says why', { skip }, async () => {
  const { namespace } = context;
  into(namespace, 'istio');
  outOf(namespace, 'istio');
  const initContainers = namespace.pod('istio').spec.initContainers ?? [];
  assert.deepEqual(
    initContainers.map(({ name }) => name),
    ['istio-init'],
  );
  const about = () =>
    namespace.events('TcpcryptLeftAlone').find(({ involvedObject }) => involvedObject.name === 'istio');
  const { message } = await eventually(about, 'the event', 30_000);
  assert.match(message, /other_mesh/);
});

test("rules of Istio in an injected pod: what they redirect goes plain, the proxy's own is encrypted", {
  skip,
}, async () => {
  const { namespace } = context;
  const initContainers = namespace.pod('unknown').spec.initContainers ?? [];
  assert.deepEqual(
    initContainers.map(({ name }) => name),
    ['tcpcrypt', 'redirect'],
  );
  const both = ['client', 'unknown'].map((name) => new Sidecar(namespace, name));
  const [, theirs] = await outcomeOf(both, async () => into(namespace, 'unknown'));
  assert.deepEqual(theirs, { plain: 1, fallbacks: { peer_unsupported: 1 } });
  // What the proxy itself says to others is not redirected.
  const [, ours] = await outcomeOf(both.slice(1), async () => outOf(namespace, 'unknown'));
  assert.deepEqual(ours, { encrypted: 1 });
});
