/**
 * `npm run bench`: compares tcpcrypt with plain TCP, with pairs of TLS proxies, with userspace tunnels and with what
 * any packet rewriter must pay, all in one run on two network namespaces. docs/performance.md explains it.
 *
 * Invariant: however it ends, no namespace, process, control group or file of it is left, except .cache/bench.
 */
import { spawnSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { TcpcryptError } from '../errors/catalogue.ts';
import { Queue } from '../sidecar/nfqueue-bindings/index.ts';
import { Lab } from '../test/kernel/support/namespaces.ts';
import { type Arguments, HELP, parseArguments } from './arguments.ts';
import { BIN, MOST_CONNECTIONS } from './bed.ts';
import { Cgroup } from './cgroup.ts';
import { chart } from './chart.ts';
import { type Part, type Row, Unavailable } from './contender.ts';
import { removeTunnelSockets } from './contenders/tunnels.ts';
import { replaceResults } from './docs.ts';
import { profileRows } from './profile.ts';
import { makeReport, markdownTable, type Report, terminalTable } from './report.ts';
import { ROWS } from './rows.ts';
import { runAll } from './run.ts';

const root = new URL('../', import.meta.url).pathname;
const say = (line: string): void => void process.stderr.write(`${line}\n`);
let cgroup: Cgroup | undefined;

process.exitCode = await main(process.argv.slice(2)).catch((error: Error) => {
  if (error instanceof TcpcryptError) say(`bench: ${error.code}: ${error.message}`);
  else say(`bench: ${error instanceof Unavailable ? error.message : (error.stack ?? error)}`);
  return error instanceof TcpcryptError && error.code === 'ERR_TCPCRYPT_USAGE' ? 2 : 1;
});

async function main(args: readonly string[]): Promise<number> {
  const names = ROWS.map((row) => row.name);
  const options = parseArguments(args, names, () => randomInt(0x1_0000_0000));
  if (options.help) return print(HELP);
  if (options.list) return print(ROWS.map(({ name, about }) => `${name.padEnd(36)}${about}\n`).join(''));
  checkSystem();
  const folder = mkdtempSync(join(tmpdir(), 'tcpcrypt-bench-'));
  cleanUpAtEnd(folder);
  // Whatever makes temporary files in this process makes them in there, and they go with it.
  process.env['TMPDIR'] = folder;
  cgroup = new Cgroup();
  checkNfqueue();
  const rows = install(ROWS.filter((row) => options.rows.includes(row.name)));
  if (options.profile) return profileRows({ ...options, rows, cgroup, folder, say, print });
  return compare(options, rows, cgroup, folder);
}

async function compare(options: Arguments, rows: readonly Row[], cgroup: Cgroup, folder: string) {
  const { rounds, seconds, seed, quick, mtu } = options;
  const cores = cpus().length;
  say(`==> ${rows.length} rows, ${rounds} rounds, transfers of ${seconds} s, seed ${seed}`);
  const result = await runAll({
    rows,
    rounds,
    seconds,
    seed,
    quick,
    mtu,
    cgroup,
    folder,
    cores,
    progress: say,
  });
  const machine = { cores, kernel: release(), architecture: process.arch, node: process.version };
  const report = makeReport(result, {
    ...{ machine, rounds, seconds, seed, quick, mtu, rows },
    mostConnections: MOST_CONNECTIONS,
  });
  print(`\n${terminalTable(report)}\n`);
  if (options.json !== undefined) write(report, options.json);
  if (options.docs) {
    write(report, join(root, 'docs/performance.json'));
    const page = join(root, 'docs/performance.md');
    writeFileSync(page, replaceResults(readFileSync(page, 'utf8'), markdownTable(report)));
  }
  return report.rows.some((row) => row.failures !== undefined) ? 1 : 0;
}

function write(report: Report, file: string): void {
  writeFileSync(file, `${JSON.stringify(report, null, 2)}\n`);
  writeFileSync(`${file.replace(/\.json$/, '')}.svg`, chart(report));
}

function print(text: string): number {
  process.stdout.write(text);
  return 0;
}

function checkSystem(): void {
  if (process.platform !== 'linux')
    throw new Unavailable(`needs Linux with netfilter; this is ${process.platform}`);
  if (process.getuid?.() !== 0)
    throw new TcpcryptError('ERR_TCPCRYPT_NOT_ROOT', 'needs root: it makes network namespaces');
  if (spawnSync('unshare', ['--net', 'true']).status !== 0)
    throw new TcpcryptError('ERR_TCPCRYPT_NOT_ROOT', 'network namespaces cannot be made here');
}

/** Throws ERR_TCPCRYPT_NO_NFQUEUE in a scratch namespace rather than in the middle of the run. */
function checkNfqueue(): void {
  using lab = new Lab();
  const netns = lab.host('probe').nsPath;
  new Queue({ number: 1, gso: true, failOpen: false, maxLength: 16, batch: 1, netns }).close();
}

/** Gets what the rows need; a row whose peer cannot be had says so when it is started. */
function install(rows: readonly Row[]): readonly Row[] {
  const parts = [...new Set(rows.flatMap(({ part }) => (part === undefined ? [] : [part])))];
  const done = spawnSync('sh', [join(root, 'scripts/setup-bench'), 'tools', ...parts], { stdio: 'inherit' });
  if (done.status !== 0) throw new Unavailable('its own tools could not be built: see above');
  return rows.map((row) => (row.part === undefined || isThere(row.part) ? row : unavailable(row, row.part)));
}

function isThere(part: Part): boolean {
  if (existsSync(join(BIN, part))) return true;
  const command = { haproxy: 'haproxy', stunnel: 'stunnel4' }[part as 'haproxy'];
  return command !== undefined && spawnSync(command, [part === 'haproxy' ? '-v' : '-version']).status === 0;
}

function unavailable(row: Row, part: Part): Row {
  return {
    ...row,
    start: () => Promise.reject(new Unavailable(`${part} could not be installed`)),
  };
}

/** However this process ends. At signals before the handlers of `Lab`, which end it. */
function cleanUpAtEnd(folder: string): void {
  const cleanUp = (): void => {
    cgroup?.[Symbol.dispose]();
    removeTunnelSockets();
    rmSync(folder, { recursive: true, force: true });
  };
  process.once('exit', cleanUp);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => {
      say('bench: interrupted; cleaning up');
      cleanUp();
    });
  }
}
