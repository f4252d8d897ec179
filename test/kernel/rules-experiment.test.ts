
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { RawSender } from '../../sidecar/nfqueue-bindings/index.ts';
import { Client, echo, Responder, RulesLab, tracked } from './support/rules-lab.ts';
import { tcpSegment } from './support/rules-packets.ts';
for (const direction of ['out', 'in']) test(direction, async () => {
  using lab = new RulesLab();
  await lab.install();
  const [from, to] = direction === 'out' ? [lab.a, lab.b] : [lab.b, lab.a];
  await echo(to);
  using r = await Responder.start(lab.a, { syn: 'hold' });
  const client = new Client(from, to.address4(), 80, 40001);
  await sleep(2500);
  console.log(r.seen.map((s) => [s.kind, s.flags, s.state]), tracked(lab.a));
  using sender = new RawSender({ mark: 0, netns: from.nsPath });
  sender.send(tcpSegment({ source: from.address4(), sourcePort: 40001, destination: to.address4(), destinationPort: 80, flags: 0x10 }));
  await sleep(200);
  console.log(r.seen.map((s) => [s.kind, s.flags, s.state]), tracked(lab.a));
  await r.stop();
  console.log(await client.connected(), tracked(lab.a));
});
