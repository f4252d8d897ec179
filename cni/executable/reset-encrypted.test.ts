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
marks = {7001: "0x02000000", 7002: "0x04000000", 7003: "0x26000000", 7004: "0x08000000"}
for family, tables in ((socket.AF_INET, "iptables-nft"), (socket.AF_INET6, "ip6tables-nft")):
  for port, mark in marks.items():
    subprocess.run([tables, "-t", "mangle", "-A", "OUTPUT", "-p", "tcp", "--dport", str(port), "-j", "CONNMARK", "--set-mark", mark], check=True)
pairs = []
for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
  for port in marks:
    listener = socket.socket(family); listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port)); listener.listen()
    client = socket.socket(family); client.connect((host, port))
    pairs.append((port, client, listener.accept()[0], listener))
supervisor = subprocess.Popen([sys.argv[1], "supervise", "--crashes", "1", "--window", "60", "--", "false"], stderr=subprocess.PIPE, text=True)
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

test('connections marked as encrypted are ended, at both ends, and no others', async () => {
  const child = spawn('unshare', ['--net', 'python3', '-c', program, executable]);
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
