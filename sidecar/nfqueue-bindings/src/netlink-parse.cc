#include "netlink-parse.h"

#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>

#include <cstring>

namespace tcpcrypt {

namespace {

constexpr size_t kPacketHeaderBytes = 7;  // struct nfqnl_msg_packet_hdr

template <typename T>
T load(const uint8_t* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

/** A 32-bit attribute in network order. False if it is too short. */
bool loadBe32(const uint8_t* value, size_t length, uint32_t& out) {
  if (length < 4) return false;
  out = ntohl(load<uint32_t>(value));
  return true;
}

bool parseAttribute(uint16_t type, const uint8_t* value, size_t length, QueuedPacket& packet, bool& hasHeader,
                    uint32_t& wholeLength, uint32_t& skbInfo) {
  switch (type) {
    case NFQA_PACKET_HDR:
      if (length < kPacketHeaderBytes) return false;
      packet.id = ntohl(load<uint32_t>(value));
      packet.hook = value[6];
      hasHeader = true;
      return true;
    case NFQA_MARK:
      return loadBe32(value, length, packet.mark);
    case NFQA_IFINDEX_INDEV:
      return loadBe32(value, length, packet.inIfindex);
    case NFQA_IFINDEX_OUTDEV:
      return loadBe32(value, length, packet.outIfindex);
    case NFQA_CAP_LEN:
      return loadBe32(value, length, wholeLength);
    case NFQA_SKB_INFO:
      return loadBe32(value, length, skbInfo);
    default:
      return true;
  }
}

/** The attributes of one packet message, which stand in bytes[at, end). */
bool parsePacket(const uint8_t* bytes, size_t at, size_t end, QueuedPacket& packet) {
  bool hasHeader = false;
  uint32_t wholeLength = 0;
  uint32_t skbInfo = 0;
  while (end - at >= NLA_HDRLEN) {
    // nla_len counts the header and not the padding behind the value.
    const size_t length = load<uint16_t>(bytes + at);
    const uint16_t type = load<uint16_t>(bytes + at + 2) & NLA_TYPE_MASK;
    if (length < NLA_HDRLEN || length > end - at) return false;
    const size_t valueLength = length - NLA_HDRLEN;
    if (type == NFQA_PAYLOAD) {
      packet.offset = static_cast<uint32_t>(at + NLA_HDRLEN);
      packet.length = static_cast<uint32_t>(valueLength);
    } else if (!parseAttribute(type, bytes + at + NLA_HDRLEN, valueLength, packet, hasHeader, wholeLength, skbInfo)) {
      return false;
    }
    const size_t padded = NLA_ALIGN(length);
    at = padded < end - at ? at + padded : end;
  }
  if (skbInfo & NFQA_SKB_CSUMNOTREADY) packet.flags |= kChecksumNotReady;
  if (skbInfo & NFQA_SKB_GSO) packet.flags |= kGso;
  if (wholeLength > packet.length) packet.flags |= kCut;
  return hasHeader;
}

}  // namespace

ParseCounts parseMessages(const uint8_t* bytes, size_t length, QueuedPacket* packets, size_t capacity) {
  ParseCounts counts;
  if (length > UINT32_MAX) return counts;
  size_t at = 0;
  while (length - at >= NLMSG_HDRLEN) {
    const size_t messageLength = load<uint32_t>(bytes + at);
    const uint16_t type = load<uint16_t>(bytes + at + 4);
    if (messageLength < NLMSG_HDRLEN || messageLength > length - at) {
      counts.malformed++;
      return counts;
    }
    const size_t body = at + NLMSG_HDRLEN;
    const size_t end = at + messageLength;
    if (type == NLMSG_ERROR) {
      if (end - body < sizeof(int32_t)) {
        counts.malformed++;
      } else if (load<int32_t>(bytes + body) != 0) {
        counts.errors++;
      }
    } else if (type == ((NFNL_SUBSYS_QUEUE << 8) | NFQNL_MSG_PACKET)) {
      QueuedPacket packet;
      if (end - body >= sizeof(nfgenmsg) && counts.packets < capacity &&
          parsePacket(bytes, body + sizeof(nfgenmsg), end, packet)) {
        packets[counts.packets++] = packet;
      } else {
        counts.malformed++;
      }
    } else if (type != NLMSG_NOOP && type != NLMSG_DONE) {
      counts.malformed++;
    }
    const size_t padded = NLMSG_ALIGN(messageLength);
    at = padded < length - at ? at + padded : length;
  }
  if (at != length) counts.malformed++;
  return counts;
}

}  // namespace tcpcrypt
