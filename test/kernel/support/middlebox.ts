/** Puts `middlebox.ts` on a router's path: forwarded TCP goes to it through an NFQUEUE of its own. */
import type { Host } from './namespaces.ts';
import { ended, saying } from './processes.ts';

const program = new URL('../middlebox/middlebox.ts', import.meta.url).pathname;
const QUEUE = 40;

export interface Middlebox {
  /** Takes it off the path; its counters say what it did. */
  stop(): Promise<Record<string, number>>;
}

/** `kinds` as the command line has them, one after the other: `['strip-options,when=syn', 'loss,percent=2']`. */
export async function startMiddlebox(router: Host, kinds: readonly string[]): Promise<Middlebox> {
  const child = router.spawnNode(program, [String(QUEUE), ...kinds], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let said = '';
  child.stdout?.on('data', (chunk: Buffer) => {
    said += chunk;
  });
  await saying(child, 'ready');
  const rule = ['FORWARD', '-p', 'tcp', '-j', 'NFQUEUE', '--queue-num', String(QUEUE)];
  for (const iptables of ['iptables', 'ip6tables']) router.run(iptables, ['-t', 'mangle', '-A', ...rule]);
  return {
    async stop() {
      for (const iptables of ['iptables', 'ip6tables']) router.run(iptables, ['-t', 'mangle', '-D', ...rule]);
      await ended(child, 'SIGTERM');
      const line = said.split('\n').find((each) => each.startsWith('{'));
      if (!line) throw new Error('the middlebox died before it said what it did');
      return JSON.parse(line);
    },
  };
}
