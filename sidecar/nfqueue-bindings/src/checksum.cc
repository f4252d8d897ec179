#include "checksum.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <cstring>
#include <initializer_list>

namespace tcpcrypt {

namespace {

constexpr size_t kIpv4HeaderBytes = 20;
constexpr size_t kIpv6HeaderBytes = 40;
constexpr size_t kTcpHeaderBytes = 20;

uint16_t load16(const uint8_t* at) { return static_cast<uint16_t>(at[0] << 8 | at[1]); }

void store16(uint8_t* at, uint16_t value) {
  at[0] = static_cast<uint8_t>(value >> 8);
  at[1] = static_cast<uint8_t>(value);
}

uint16_t fold(uint64_t sum) {
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

/** `pseudo` is the sum of the addresses. Both lengths were checked: `tcp` holds `length` bytes. */
bool completeTcp(uint8_t* tcp, size_t length, uint32_t pseudo) {
  if (length < kTcpHeaderBytes) return false;
  const size_t headerLength = (tcp[12] >> 4) * 4u;
  if (headerLength < kTcpHeaderBytes || headerLength > length) return false;
  store16(tcp + 16, 0);
  const uint32_t initial = pseudo + IPPROTO_TCP + static_cast<uint32_t>(length);
  store16(tcp + 16, static_cast<uint16_t>(~checksum(tcp, length, initial)));
  return true;
}

bool completeIpv4(uint8_t* packet, size_t length) {
  if (length < kIpv4HeaderBytes) return false;
  const size_t headerLength = (packet[0] & 15) * 4u;
  if (headerLength < kIpv4HeaderBytes || headerLength > length) return false;
  const bool fragment = (load16(packet + 6) & 0x3fff) != 0;
  if (load16(packet + 2) != length || fragment || packet[9] != IPPROTO_TCP) return false;
  if (!completeTcp(packet + headerLength, length - headerLength, checksum(packet + 12, 8))) return false;
  store16(packet + 10, 0);
  store16(packet + 10, static_cast<uint16_t>(~checksum(packet, headerLength)));
  return true;
}

/** Where the TCP header begins behind the extension headers, or 0. */
size_t ipv6TransportOffset(const uint8_t* packet, size_t length) {
  uint8_t next = packet[6];
  size_t at = kIpv6HeaderBytes;
  while (next != IPPROTO_TCP) {
    if (length - at < 8) return 0;
    const uint8_t type = next;
    const uint8_t extensionLength = packet[at + 1];
    // A routing header that is not used up: the pseudo-header would hold another destination.
    if (type == IPPROTO_ROUTING && packet[at + 3] != 0) return 0;
    if (type != IPPROTO_HOPOPTS && type != IPPROTO_DSTOPTS && type != IPPROTO_ROUTING) return 0;
    next = packet[at];
    const size_t bytes = (extensionLength + 1u) * 8;
    if (bytes > length - at) return 0;
    at += bytes;
  }
  return at;
}

bool completeIpv6(uint8_t* packet, size_t length) {
  if (length < kIpv6HeaderBytes || load16(packet + 4) != length - kIpv6HeaderBytes) return false;
  const size_t at = ipv6TransportOffset(packet, length);
  return at != 0 && completeTcp(packet + at, length - at, checksum(packet + 8, 32));
}

}  // namespace

uint16_t checksum(const uint8_t* bytes, size_t length, uint32_t initial) {
  // Summed in the machine's order, 64 bits at a time in two independent chains, and swapped once at the end
  // (RFC 1071, 2(B)). 2^64 = 1 modulo 0xffff, so what is carried out is added again.
  uint64_t sums[2] = {0, 0};
  uint64_t carries[2] = {0, 0};
  for (; length >= 16; length -= 16, bytes += 16) {
    for (int i = 0; i < 2; i++) {
      uint64_t word;
      std::memcpy(&word, bytes + 8 * i, 8);
      sums[i] += word;
      carries[i] += sums[i] < word;
    }
  }
  uint64_t rest[2] = {0, 0};
  if (length != 0) std::memcpy(rest, bytes, length);
  uint64_t sum = carries[0] + carries[1];
  for (const uint64_t word : {sums[0], sums[1], rest[0], rest[1]}) sum += (word & 0xffffffff) + (word >> 32);
  return fold(static_cast<uint64_t>(ntohs(fold(sum))) + initial);
}

bool completeChecksums(uint8_t* packet, size_t length) {
  if (length == 0) return false;
  switch (packet[0] >> 4) {
    case 4:
      return completeIpv4(packet, length);
    case 6:
      return completeIpv6(packet, length);
    default:
      return false;
  }
}

}  // namespace tcpcrypt
