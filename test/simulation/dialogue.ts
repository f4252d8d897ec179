/** What two applications say to one another, drawn at random. */

import type { Script, Step } from './application.ts';
import type { Random } from './random.ts';

/** Requests and answers in turn, or both at once; who speaks first is open. */
export function drawDialogue(random: Random): { openerScript: Script; listenerScript: Script } {
  const sides: { steps: Step[]; sent: number }[] = [
    { steps: [], sent: 0 },
    { steps: [], sent: 0 },
  ];
  const turns = random.between(0, 5);
  const atOnce = random.chance(0.25);
  let speaker = random.below(2);
  const largest = random.chance(0.3) ? 40_000 : 3_000;
  for (let turn = 0; turn < turns; turn++) {
    const mine = sides[speaker]!;
    const bytes = random.skewed(1, largest);
    const after = atOnce ? 0 : sides[1 - speaker]!.sent;
    const delayMs = random.chance(0.6) ? 0 : random.skewed(1, 3000);
    mine.steps.push({ after, delayMs, bytes, urgent: random.chance(0.05) });
    mine.sent += bytes;
    if (random.chance(0.8)) speaker = 1 - speaker;
  }
  const script = (side: { steps: Step[] }): Script => ({
    steps: side.steps,
    end: random.chance(0.06) ? 'abort' : 'close',
    slowRead: random.chance(0.1)
      ? { everyMs: random.skewed(1, 300), chunk: random.between(50, 2000) }
      : undefined,
  });
  return { openerScript: script(sides[0]!), listenerScript: script(sides[1]!) };
}
