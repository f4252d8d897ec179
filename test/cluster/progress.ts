/** Lines that say what is under way and how long it took: a cluster takes minutes to build and to start. */

const bold = (text: string): string => (process.stderr.isTTY ? `\x1b[1m${text}\x1b[0m` : text);

/** Says `what`, does it, and says how long it took, or the remark that `work` returned. */
export async function progress(what: string, work: () => Promise<unknown>): Promise<void> {
  const started = performance.now();
  const { isTTY } = process.stderr;
  if (isTTY) process.stderr.write(`${bold(`==> ${what}`)} …`);
  const remark = await work();
  const elapsed = `${((performance.now() - started) / 1000).toFixed(1)} s`;
  const outcome = typeof remark === 'string' ? remark : elapsed;
  process.stderr.write(`${isTTY ? '\r\x1b[K' : ''}${bold(`==> ${what}`)} (${outcome})\n`);
}
