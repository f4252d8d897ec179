// Sends whole IP packets with a mark, past the sockets of any application.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "file-descriptor.h"

namespace tcpcrypt {

class RawSender {
 public:
  /** Opens raw sockets of both families. Throws `Failure`; an absent IPv6 is no failure. */
  RawSender(uint32_t mark, const std::string& netns);

  /**
   * Sends one IP packet to the destination in its header; for a link-local one over `ifindex`.
   * Returns 0 or the errno: EINVAL if it is not one whole packet.
   */
  int send(const uint8_t* packet, size_t length, uint32_t ifindex);

  void close();
  bool open() const { return ipv4_.open(); }

 private:
  FileDescriptor ipv4_;
  FileDescriptor ipv6_;
  int ipv6Error_ = 0;
};

}  // namespace tcpcrypt
