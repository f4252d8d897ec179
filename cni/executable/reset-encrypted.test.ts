/** What a pause of the supervisor ends: connections with the marks of encrypted ones, and no others. Needs root. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { before, test } from 'node:test';
import { build, executable } from './testing.ts';

before(() => build());

/** A server and clients in one namespace; ports get the connmark of a state. Prints what became of each client. */
const program = `
import socket, subprocess, sys, time
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
lowest, options = int(sys.argv[2]), sys.argv[3:]
marks = {7001: 0x1 << lowest, 7002: 0x2 << lowest, 7003: 0x13 << lowest, 7004: 0x4 << lowest}
for family, tables in ((socket.AF_INET, "iptables-nft"), (socket.AF_INET6, "ip6tables-nft")):
  for port, mark in marks.items():
    subprocess.run([tables, "-t", "mangle", "-A", "OUTPUT", "-p", "tcp", "--dport", str(port), "-j", "CONNMARK", "--set-mark", hex(mark)], check=True)
pairs = []
for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
  for port in marks:
    listener = socket.socket(family); listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port)); listener.listen()
    client = socket.socket(family); client.connect((host, port))
    pairs.append((port, client, listener.accept()[0], listener))
supervisor = subprocess.Popen([sys.argv[1], "supervise", "--crashes", "1", "--window", "60", "--", "false", *options], stderr=subprocess.PIPE, text=True)
supervisor.stderr.readline(); print(supervisor.stderr.readline().strip())
supervisor.terminate(); supervisor.wait()
for port, client, server, listener in pairs:
  ends = []
  for end in (client, server):
    try: end.send(b"x"); ends.append("open")
    except OSError: ends.append("ended")
  listener.getsockname()
  print(port, *ends)
`;

for (const [what, lowestBit, options] of [
  ['the default mask', 25, []],
  ["the command's mask", 16, ['--policy', 'x', '--mark-mask=0x003f0000']],
  ["the command's mask, an argument of its own", 3, ['--mark-mask=0x3f', '--mark-mask', '504', '--x']],
] as const)
  test(`connections marked as encrypted are ended, at both ends, and no others: ${what}`, async () => {
    const command = ['--net', 'python3', '-c', program, executable, String(lowestBit), ...options];
    const child = spawn('unshare', command);
    let output = '';
    child.stdout.on('data', (text) => {
      output += text;
    });
    child.stderr.on('data', (text) => {
      output += text;
    });
    await once(child, 'close');
    const lines = output.trim().split('\n');
    assert.match(lines[0] ?? '', /8 encrypted ones were ended/, output);
    const expected = ['7001 open open', '7002 ended ended', '7003 ended ended', '7004 open open'];
    assert.deepEqual(lines.slice(1), [...expected, ...expected], output);
  });
