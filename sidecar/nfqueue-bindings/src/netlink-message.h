// Writes netlink messages into a buffer whose room the caller has made sure of.
#pragma once

#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tcpcrypt {

/** The bytes that an attribute with a value of `length` takes, padding included. */
constexpr size_t attributeBytes(size_t length) { return NLA_ALIGN(NLA_HDRLEN + length); }

constexpr size_t kNfMessageHeaderBytes = NLMSG_HDRLEN + sizeof(nfgenmsg);

class NetlinkMessage {
 public:
  /** Begins an nfnetlink message at `at`, which must hold it with all attributes to come. */
  NetlinkMessage(uint8_t* at, uint8_t subsystem, uint8_t type, uint16_t flags, uint32_t sequence, uint16_t resource)
      : start_(at), end_(at + kNfMessageHeaderBytes) {
    nlmsghdr header{};
    header.nlmsg_type = static_cast<uint16_t>(subsystem << 8 | type);
    header.nlmsg_flags = NLM_F_REQUEST | flags;
    header.nlmsg_seq = sequence;
    nfgenmsg general{};
    general.nfgen_family = AF_UNSPEC;
    general.version = NFNETLINK_V0;
    general.res_id = htons(resource);
    std::memcpy(at, &header, sizeof header);
    std::memcpy(at + NLMSG_HDRLEN, &general, sizeof general);
  }

  /** Adds an attribute; `length` is at most 65531. nla_len leaves out the padding, which is zeroed. */
  void add(uint16_t type, const void* value, size_t length) {
    addHead(type, length);
    if (length != 0) std::memcpy(end_, value, length);
    std::memset(end_ + length, 0, attributeBytes(length) - NLA_HDRLEN - length);
    end_ += attributeBytes(length) - NLA_HDRLEN;
  }

  void addBe32(uint16_t type, uint32_t value) {
    const uint32_t wire = htonl(value);
    add(type, &wire, sizeof wire);
  }

  /** Begins an attribute whose value of `length` bytes, and the padding behind it, follow from elsewhere. */
  void addHead(uint16_t type, size_t length) {
    nlattr attribute{};
    attribute.nla_len = static_cast<uint16_t>(NLA_HDRLEN + length);
    attribute.nla_type = type;
    std::memcpy(end_, &attribute, sizeof attribute);
    end_ += NLA_HDRLEN;
  }

  /** Writes the length into the header, `elsewhere` included, and returns what of it stands here. */
  size_t finish(size_t elsewhere = 0) {
    const auto here = static_cast<size_t>(end_ - start_);
    const auto length = static_cast<uint32_t>(here + elsewhere);
    std::memcpy(start_, &length, sizeof length);
    return here;
  }

 private:
  uint8_t* start_;
  uint8_t* end_;
};

}  // namespace tcpcrypt
