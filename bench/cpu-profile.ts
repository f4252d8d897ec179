/** Reads V8's CPU profiles (the Chrome DevTools protocol, Profiler.Profile): self time by function and by file. Pure. */

interface ProfileNode {
  readonly id: number;
  readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
}

/** Times in microseconds, of the clock that process.hrtime reads. */
export interface CpuProfile {
  readonly nodes: readonly ProfileNode[];
  readonly startTime: number;
  readonly samples: readonly number[];
  /** Between one sample and the one before; the first counts from `startTime`. */
  readonly timeDeltas: readonly number[];
}

export interface Share {
  readonly name: string;
  /** Of the time between `fromUs` and `toUs`, 0 to 1. */
  readonly share: number;
}

/** Self time within a window, largest first: by function with its file and line, or by file. */
export function selfTime(
  profile: CpuProfile,
  by: 'function' | 'file',
  root: string,
  fromUs = 0,
  toUs = Number.POSITIVE_INFINITY,
): Share[] {
  const names = new Map(profile.nodes.map((node) => [node.id, nameOf(node, by, root)]));
  const times = new Map<string, number>();
  let now = profile.startTime;
  let total = 0;
  for (const [i, id] of profile.samples.entries()) {
    const delta = profile.timeDeltas[i];
    now += delta;
    if (now < fromUs || now > toUs || delta < 0) continue;
    const name = names.get(id) ?? '(unknown)';
    times.set(name, (times.get(name) ?? 0) + delta);
    total += delta;
  }
  return [...times].map(([name, time]) => ({ name, share: time / total })).sort((a, b) => b.share - a.share);
}

/** Whether any function of a file, given by the end of its path, is in the profile. */
export const hasFile = (profile: CpuProfile, end: string): boolean =>
  profile.nodes.some(({ callFrame }) => callFrame.url.endsWith(end));

function nameOf({ callFrame }: ProfileNode, by: 'function' | 'file', root: string): string {
  const { functionName, url, lineNumber } = callFrame;
  // V8's own, such as "(garbage collector)", and native functions have no file.
  if (url === '') return by === 'file' && !functionName.startsWith('(') ? '(native)' : functionName;
  const file = url.replace(`file://${root}`, '').replace(/^file:\/\//, '');
  return by === 'file' ? file : `${functionName || '(anonymous)'} ${file}:${lineNumber + 1}`;
}
