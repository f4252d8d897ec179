// The Internet checksum (RFC 1071) and the checksums of an IP packet that carries TCP. Pure.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tcpcrypt {

/**
 * The one's complement sum of big-endian 16-bit words, folded to 16 bits and not inverted; an odd last
 * byte counts as the high half of a word. `initial` is added.
 */
uint16_t checksum(const uint8_t* bytes, size_t length, uint32_t initial = 0);

/**
 * Computes the IPv4 header checksum and the TCP checksum in place. False, and nothing written, if it is
 * not one whole unfragmented TCP packet whose lengths agree with `length`.
 */
bool completeChecksums(uint8_t* packet, size_t length);

}  // namespace tcpcrypt
