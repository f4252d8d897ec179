/**
 * `loop.ts QUEUE`: the packet loop with everything of tcpcrypt but tcpcrypt. Each packet is parsed, its connection is
 * looked up, its options are walked, and it is given back whole with fresh checksums. Writes "ready". What tcpcrypt
 * adds on top is its protocol and its crypto; what is below is the kernel's and the binding's.
 */
import { completeChecksums, descriptor, hooks, Queue } from '../../sidecar/nfqueue-bindings/index.ts';
import { read32 } from '../../sidecar/wire/bytes.ts';
import { optionLength } from '../../sidecar/wire/options.ts';
import { FIN, type Packet, parsePacket, RST, TCP_HEADER_BYTES } from '../../sidecar/wire/packet.ts';

interface Flow {
  packets: number;
  options: number;
  /** Directions that have sent their FIN, a bit each. */
  closed: number;
}

/** By the remote address, then by both ports: no key is a string, so a lookup allocates nothing. IPv4 only. */
const flows = new Map<number, Map<number, Flow>>();
const SOURCE = 12;
const DESTINATION = 16;

function handle(packet: Packet, incoming: boolean): void {
  const { bytes, tcp, payload } = packet;
  const address = read32(bytes, incoming ? SOURCE : DESTINATION);
  const ports = read32(bytes, tcp);
  const key = incoming ? ports : ((ports << 16) | (ports >>> 16)) >>> 0;
  let peers = flows.get(address);
  if (peers === undefined) {
    peers = new Map();
    flows.set(address, peers);
  }
  let flow = peers.get(key);
  if (flow === undefined) {
    flow = { packets: 0, options: 0, closed: 0 };
    peers.set(key, flow);
  }
  flow.packets++;
  let at = tcp + TCP_HEADER_BYTES;
  for (let step = optionLength(bytes, at, payload); step > 0; step = optionLength(bytes, at, payload)) {
    flow.options++;
    at += step;
  }
  const flags = bytes[tcp + 13];
  if (flags & FIN) flow.closed |= incoming ? 1 : 2;
  if (flags & RST || flow.closed === 3) peers.delete(key);
}

using queue = new Queue({
  number: Number(process.argv[2]),
  gso: true,
  failOpen: false,
  maxLength: 16_384,
  batch: 8,
});
const poller = Queue.poller([queue]);
process.stdout.write('ready\n');
const { ring, descriptors } = queue;
for (;;) {
  poller.next(-1, Infinity);
  const count = poller.received(0);
  for (let at = 0; at < count * descriptor.stride; at += descriptor.stride) {
    const offset = descriptors[at + descriptor.offset];
    const end = offset + descriptors[at + descriptor.length];
    const bytes = ring.subarray(offset, end);
    const packet = parsePacket(bytes);
    if (typeof packet !== 'string') handle(packet, descriptors[at + descriptor.hook] === hooks.prerouting);
    completeChecksums(bytes);
    queue.acceptInPlace(descriptors[at + descriptor.id], undefined, offset, end);
  }
}
