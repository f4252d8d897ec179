/** A capture of one device with tcpdump, read back: to search it for bytes that must not be there. */
import { Buffer } from 'node:buffer';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse, type TcpPacket } from '../middlebox/packet.ts';
import type { Host } from './namespaces.ts';
import { ended, sleep } from './processes.ts';

export interface Captured {
  /** TCP packets that carried data. */
  readonly dataPackets: number;
  readonly packets: readonly TcpPacket[];
  /** The first packet whose data has the needle. */
  find(needle: string | Uint8Array): TcpPacket | undefined;
}

export interface Capture {
  stop(): Promise<Captured>;
}

/** Starts tcpdump on the i-th link of a host; resolves when it listens. `snapBytes` of each packet are kept. */
export async function capture(
  host: Pick<Host, 'device' | 'spawn'>,
  options: { link?: number; snapBytes?: number; filter?: string } = {},
): Promise<Capture> {
  const folder = mkdtempSync(join(tmpdir(), 'tcpcrypt-capture-'));
  const file = join(folder, 'capture.pcap');
  const { link = 0, snapBytes = 0, filter = 'tcp' } = options;
  const how = `-i ${host.device(link)} -w ${file} -U --immediate-mode -n -Z root -s ${snapBytes} -B 32768 ${filter}`;
  const child = host.spawn('tcpdump', how.split(' '), { stdio: ['ignore', 'ignore', 'pipe'] });
  await new Promise<void>((resolve, reject) => {
    let said = '';
    child.stderr?.on('data', (chunk: Buffer) => {
      said += chunk;
      if (said.includes('listening on')) resolve();
    });
    child.once('exit', () => reject(new Error(`tcpdump ended: ${said}`)));
  });
  return {
    async stop() {
      // What is on its way still: the capture is immediate, the writing is not.
      await sleep(300);
      await ended(child, 'SIGINT');
      const packets = [...readPcap(readFileSync(file))];
      rmSync(folder, { recursive: true });
      return {
        packets,
        dataPackets: packets.filter((packet) => packet.data.length > 0).length,
        find: (needle) => packets.find((packet) => packet.data.includes(needle)),
      };
    },
  };
}

/** What was captured while `action` went on, and what that returned. */
export async function captured<T>(
  host: Pick<Host, 'device' | 'spawn'>,
  filter: string,
  action: () => T | Promise<T>,
): Promise<[Captured, T]> {
  const running = await capture(host, { filter });
  let result: T;
  let packets: Captured;
  try {
    result = await action();
  } finally {
    // Also when something went wrong: a capture left behind would keep the process.
    packets = await running.stop();
  }
  return [packets, result];
}

/** TCP packets of a pcap file (little-endian, Ethernet); ones cut by the snap length with what is left of them. */
function* readPcap(file: Buffer): Generator<TcpPacket> {
  for (let at = 24; at + 16 <= file.length; ) {
    const kept = file.readUInt32LE(at + 8);
    const frame = file.subarray(at + 16, at + 16 + kept);
    at += 16 + kept;
    const packet = parse(whole(frame.subarray(14)));
    if (packet) yield packet;
  }
}

/** Makes a cut datagram, and a super-segment whose length field says 0, consistent again. */
function whole(datagram: Buffer): Buffer {
  if (datagram.length < 40) return datagram;
  const bytes = Buffer.from(datagram);
  if (bytes[0] >> 4 === 4 && (bytes.readUInt16BE(2) > bytes.length || bytes.readUInt16BE(2) === 0))
    bytes.writeUInt16BE(bytes.length, 2);
  if (bytes[0] >> 4 === 6 && bytes.readUInt16BE(4) + 40 > bytes.length)
    bytes.writeUInt16BE(bytes.length - 40, 4);
  return bytes;
}
