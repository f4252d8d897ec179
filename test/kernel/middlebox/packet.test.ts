import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { test } from 'node:test';
import { build, checksum, parse } from './packet.ts';

/** A SYN that tcpdump captured from Linux 6.18: 10.77.1.1:34462 to 10.77.2.2:8080, checksums filled in. */
export const linuxSyn4 = (): Buffer => {
  const ip = Buffer.from('4500003c1c4640004006000 00a4d01010a4d0202'.replace(' ', ''), 'hex');
  const tcp = Buffer.from(
    '869e1f90d19f6c5e00000000a002faf000000000020405b40402080a0c3c4b5e00000000' + '01030307',
    'hex',
  );
  ip.writeUInt16BE(checksum([ip]), 10);
  const pseudo = Buffer.from([0, 6, 0, tcp.length]);
  tcp.writeUInt16BE(checksum([ip.subarray(12, 20), pseudo, tcp]), 16);
  return Buffer.concat([ip, tcp]);
};

test('a packet that is read and built again is the same bytes', () => {
  const bytes = linuxSyn4();
  const packet = parse(bytes)!;
  assert.equal(packet.sourcePort, 34462);
  assert.equal(packet.destinationPort, 8080);
  assert.deepEqual(
    packet.options.map((option) => option.kind),
    [2, 4, 8, 1, 3],
  );
  assert.equal(build(packet).toString('hex'), bytes.toString('hex'));
});

test('RFC 1071: the checksum over a segment that holds its checksum is zero', () => {
  const bytes = linuxSyn4();
  assert.equal(checksum([bytes.subarray(0, 20)]), 0);
  const tcp = bytes.subarray(20);
  assert.equal(checksum([bytes.subarray(12, 20), Buffer.from([0, 6, 0, tcp.length]), tcp]), 0);
  assert.equal(checksum([Buffer.from('0001f203f4f5f6f7', 'hex')]), 0x220d);
});

test('IPv6: lengths and checksum follow the data', () => {
  const ip = Buffer.alloc(40);
  ip[0] = 0x60;
  ip[6] = 6;
  ip[7] = 64;
  ip[23] = 1;
  ip[39] = 2;
  const bytes = build({
    ...parse(linuxSyn4())!,
    ip,
    source: ip.toString('hex', 8, 24),
    destination: ip.toString('hex', 24),
    data: Buffer.from('odd'),
  });
  const packet = parse(bytes)!;
  assert.equal(packet.data.toString(), 'odd');
  assert.equal(bytes.readUInt16BE(4), 43);
  const tcp = bytes.subarray(40);
  assert.equal(checksum([bytes.subarray(8, 40), Buffer.from([0, 6, 0, tcp.length]), tcp]), 0);
});

test('what is not a whole TCP packet is left alone', () => {
  const bytes = linuxSyn4();
  for (let length = 0; length < bytes.length; length++)
    assert.equal(parse(bytes.subarray(0, length)), undefined);
  const udp = Buffer.from(bytes);
  udp[9] = 17;
  assert.equal(parse(udp), undefined);
});
