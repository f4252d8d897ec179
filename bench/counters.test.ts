import assert from 'node:assert/strict';
import { test } from 'node:test';
import { increases, tcpCounters } from './counters.ts';

test('proc_pid_net(5): the counters of TCP out of /proc/net/snmp', () => {
  const text = 'Ip: A B\nIp: 1 2\nTcp: OutSegs MaxConn RetransSegs\nTcp: 500 -1 7\nUdp: A\nUdp: 3\n';
  assert.deepEqual(
    [...tcpCounters(text)],
    [
      ['kernel Tcp OutSegs', 500],
      ['kernel Tcp MaxConn', -1],
      ['kernel Tcp RetransSegs', 7],
    ],
  );
  assert.equal(tcpCounters('').size, 0);
});

test('increases: what rose, new counters from nothing, and nothing else', () => {
  const before = new Map([
    ['same', 5],
    ['more', 1000],
    ['fell', 9],
  ]);
  const after = new Map([
    ['same', 5],
    ['more', 3500.5],
    ['fell', 3],
    ['new', 2],
  ]);
  assert.deepEqual(increases(before, after), ['2,500.5  more', '2  new']);
});
