/** What `helm uninstall` runs first, where it does not go as it should; test/cluster has where it does. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AppsV1Api } from '@kubernetes/client-node';
import { loadConfig } from '../../kubernetes/client.ts';
import { removeAgents } from '../../operator/remove-agents.ts';
import { startControlPlane } from '../cluster/control-plane.ts';
import { skip } from './lab.ts';

test('agents that do not end hold nobody up, nor do ones that are not there', { skip }, async () => {
  await using controlPlane = await startControlPlane();
  const { kubeconfig } = controlPlane;
  const where = { namespace: 'default', daemonSet: 'agents', kubeconfig };
  assert.match(await removeAgents({ ...where, waitMs: 60_000 }), /have ended/);

  const apps = loadConfig(kubeconfig).makeApiClient(AppsV1Api);
  const labels = { app: 'agent' };
  const template = { metadata: { labels }, spec: { containers: [{ name: 'agent', image: 'x' }] } };
  const body = { metadata: { name: 'agents' }, spec: { selector: { matchLabels: labels }, template } };
  await apps.createNamespacedDaemonSet({ namespace: 'default', body });
  // There are no controllers that would finish the deletion.
  assert.match(
    await removeAgents({ ...where, waitMs: 1000 }),
    /not every node agent has ended.*is a node down/,
  );
  const { metadata } = await apps.readNamespacedDaemonSet({ name: 'agents', namespace: 'default' });
  assert.ok(metadata?.deletionTimestamp, 'it was not deleted in the foreground');

  await assert.rejects(removeAgents({ ...where, kubeconfig: '/nonexistent', waitMs: 1000 }), {
    code: 'ERR_TCPCRYPT_KUBERNETES',
  });
});
