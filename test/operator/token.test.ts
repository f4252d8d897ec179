/** The API token of the pod's service account, which the API server mounts into every container but ours. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventually } from '../kernel/support/processes.ts';
import { type Json, podManifest, skip, startLab } from './lab.ts';

const TOKEN_DIR = '/var/run/secrets/kubernetes.io/serviceaccount';

test('no token in our container; the others have theirs', { skip, timeout: 300_000 }, async () => {
  await using lab = await startLab({ disableAdmissionPlugins: ['DefaultStorageClass'] });
  await lab.callTo(await lab.operator());
  await lab.kubectl('create', 'namespace', 'shop');
  // What the controller manager would make.
  await lab.kubectl('create', 'serviceaccount', 'default', '-n', 'shop');
  const spec = { initContainers: [{ name: 'setup', image: 'x' }] };
  const pod = await eventually(
    async () => {
      const made = await lab.create(podManifest('web', 'shop', spec), '--dry-run=server');
      return made.spec.initContainers[0].name === 'tcpcrypt' && made;
    },
    'a pod injected',
    20_000,
  );
  const tokenOf = ({ volumeMounts }: Json): string =>
    volumeMounts.find(({ mountPath }: Json) => mountPath === TOKEN_DIR)?.name;
  const [ours, setup] = pod.spec.initContainers;
  assert.equal(tokenOf(ours), 'tcpcrypt-no-token');
  assert.match(tokenOf(setup), /^kube-api-access-/);
  assert.match(tokenOf(pod.spec.containers[0]), /^kube-api-access-/);
  assert.equal(
    ours.volumeMounts.some(({ name }: Json) => name.startsWith('kube-api-access')),
    false,
  );
});
