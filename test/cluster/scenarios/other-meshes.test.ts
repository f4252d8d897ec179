/**
 * Other meshes' own rules in a pod, put in by their own installers as their init containers call them, with nginx in
 * the proxy's place: it serves the proxy's two ports as the proxy's user. Whatever we do there, the application's
 * traffic goes through.
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

interface Mesh {
  readonly name: string;
  /** Its init container, by whose name it is recognised. */
  readonly init: string;
  /** Its installer, with the arguments that its injector writes. */
  readonly install: readonly string[];
  readonly proxyUser: number;
  readonly outboundPort: number;
  readonly inboundPort: number;
}

const meshes: readonly Mesh[] = [
  {
    ...{ name: 'istio', init: 'istio-init' },
    ...{ proxyUser: 1337, outboundPort: 15001, inboundPort: 15006 },
    install: [
      ...['istio-iptables', '-p', '15001', '-z', '15006', '-u', '1337'],
      ...['-m', 'REDIRECT', '-i', '*', '-x', '', '-b', '*', '-d', '15090,15021,15020'],
    ],
  },
  {
    ...{ name: 'linkerd', init: 'linkerd-init' },
    ...{ proxyUser: 2102, outboundPort: 4140, inboundPort: 4143 },
    install: [
      ...['linkerd-proxy-init', '--incoming-proxy-port', '4143', '--outgoing-proxy-port', '4140'],
      ...['--proxy-uid', '2102', '--inbound-ports-to-ignore', '4190,4191,4567,4568'],
      ...['--outbound-ports-to-ignore', '4567,4568'],
      ...['--firewall-bin-path', 'iptables-legacy', '--firewall-save-bin-path', 'iptables-legacy-save'],
    ],
  },
];

/** What comes to either port goes to where it was meant for; a header shows that it passed here. */
const proxyConfig = ({ outboundPort, inboundPort }: Mesh): string => `
daemon off; pid /tmp/nginx.pid; error_log /dev/stderr;
events {}
http {
  access_log off;
  client_body_temp_path /tmp/1; proxy_temp_path /tmp/2; fastcgi_temp_path /tmp/3; uwsgi_temp_path /tmp/4; scgi_temp_path /tmp/5;
  server { listen ${outboundPort}; location / { proxy_pass http://$http_host; add_header x-out proxied; } }
  server { listen ${inboundPort}; location / { proxy_pass http://127.0.0.1:80; add_header x-in proxied; } }
}`;

/** A pod of that mesh, whose rules are put in by an init container of this name. */
function meshed(mesh: Mesh, name: string, init: string): object {
  const image = { image: MESH_IMAGE, imagePullPolicy: 'Never' };
  const capabilities = { add: ['NET_ADMIN', 'NET_RAW'], drop: ['ALL'] };
  const installer = {
    name: init,
    ...image,
    command: mesh.install,
    securityContext: { runAsUser: 0, capabilities },
  };
  const proxy = {
    ...{ name: 'proxy', ...image, env: [{ name: 'CONFIG', value: proxyConfig(mesh) }] },
    command: ['sh', '-c', 'printf "%s" "$CONFIG" >/tmp/nginx.conf; exec nginx -c /tmp/nginx.conf'],
    securityContext: { runAsUser: mesh.proxyUser, runAsGroup: mesh.proxyUser },
    readinessProbe: {
      exec: { command: ['curl', '-sf', `http://127.0.0.1:${mesh.inboundPort}/`] },
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
    ...meshes.flatMap((mesh) => [
      meshed(mesh, mesh.name, mesh.init),
      meshed(mesh, `${mesh.name}-unknown`, 'redirect'),
    ]),
  ]);
});

const headers = (namespace: TestNamespace, from: string, to: string): string =>
  namespace.exec(from, ['curl', '-sSfi', '--max-time', '20', `http://${namespace.address(to, 4)}/`]).stdout;
/** Into a pod, and out of it, each time through its proxy. */
const into = (namespace: TestNamespace, name: string): void =>
  assert.match(headers(namespace, 'client', name), new RegExp(`x-in: proxied.*\\n${name}`, 's'));
const outOf = (namespace: TestNamespace, name: string): void =>
  assert.match(headers(namespace, name, 'web'), /x-out: proxied.*\nweb/s);
const initContainers = (namespace: TestNamespace, name: string): string[] =>
  (namespace.pod(name).spec.initContainers ?? []).map((container) => container.name);

for (const { name, init } of meshes) {
  test(`a pod of ${name} is left alone, and an event says why`, { skip }, async () => {
    const { namespace } = context;
    into(namespace, name);
    outOf(namespace, name);
    assert.deepEqual(initContainers(namespace, name), [init]);
    const about = () =>
      namespace.events('TcpcryptLeftAlone').find(({ involvedObject }) => involvedObject.name === name);
    const { message } = await eventually(about, 'the event', 30_000);
    assert.match(message, /other_mesh/);
  });

  test(`rules of ${name} in an injected pod: what they redirect goes plain, the proxy's own is encrypted`, {
    skip,
  }, async () => {
    const { namespace } = context;
    const unknown = `${name}-unknown`;
    assert.deepEqual(initContainers(namespace, unknown), ['tcpcrypt', 'redirect']);
    const both = ['client', unknown].map((each) => new Sidecar(namespace, each));
    const [, theirs] = await outcomeOf(both, async () => into(namespace, unknown));
    assert.deepEqual(theirs, { plain: 1, fallbacks: { peer_unsupported: 1 } });
    // What the proxy itself says to others is not redirected.
    const [, ours] = await outcomeOf(both.slice(1), async () => outOf(namespace, unknown));
    assert.deepEqual(ours, { encrypted: 1 });
  });
}
