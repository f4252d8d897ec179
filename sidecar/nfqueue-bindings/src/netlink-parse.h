// What the kernel sends on an NFQUEUE socket, from bytes to values. Pure: no state, no I/O, no
// allocation; reads nothing outside the bytes given, whatever they hold.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tcpcrypt {

enum PacketFlag : uint32_t {
  kChecksumNotReady = 1,  // NFQA_SKB_CSUMNOTREADY: the transport checksum is still to be computed
  kGso = 2,               // NFQA_SKB_GSO: a super-segment
  kCut = 4,               // the packet is longer than what was copied
};

/** A queued packet. `offset` and `length` say where its bytes stand in the buffer parsed. */
struct QueuedPacket {
  uint32_t id = 0;
  uint32_t offset = 0;
  uint32_t length = 0;
  uint32_t hook = 0;
  uint32_t mark = 0;
  uint32_t inIfindex = 0;
  uint32_t outIfindex = 0;
  uint32_t flags = 0;
};

struct ParseCounts {
  size_t packets = 0;
  /** NLMSG_ERROR with an error in it: a verdict that the kernel refused. */
  size_t errors = 0;
  /** Messages that are not what the kernel sends, or do not fit into `packets`. */
  size_t malformed = 0;
};

/** Parses every message in `bytes`; at most `capacity` packets are written to `packets`. */
ParseCounts parseMessages(const uint8_t* bytes, size_t length, QueuedPacket* packets, size_t capacity);

}  // namespace tcpcrypt
