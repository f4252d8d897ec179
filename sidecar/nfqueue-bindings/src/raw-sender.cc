#include "raw-sender.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include "failure.h"
#include "netns.h"

namespace tcpcrypt {

namespace {

constexpr size_t kIpv4HeaderBytes = 20;
constexpr size_t kIpv6HeaderBytes = 40;
// What the kernel believes of a path's MTU does not count: the rewriter told it less than there is.
constexpr char kMtu[] = "cannot set the MTU discovery of a raw socket";
#ifndef IPV6_HDRINCL
#define IPV6_HDRINCL 36
#endif

size_t load16(const uint8_t* at) { return static_cast<size_t>(at[0] << 8 | at[1]); }

void setOption(int fd, int level, int option, uint32_t value, const char* what) {
  if (setsockopt(fd, level, option, &value, sizeof value) != 0) throw systemFailure(what, errno);
}

void prepare(int fd, uint32_t mark) {
  setOption(fd, SOL_SOCKET, SO_MARK, mark, "cannot set the mark of a raw socket");
  // Nobody reads from it.
  setOption(fd, SOL_SOCKET, SO_RCVBUF, 0, "cannot shrink the receive buffer of a raw socket");
}

int sendTo(int fd, const uint8_t* packet, size_t length, const sockaddr* to, socklen_t toLength) {
  for (;;) {
    if (sendto(fd, packet, length, MSG_DONTWAIT | MSG_NOSIGNAL, to, toLength) >= 0) return 0;
    if (errno != EINTR) return errno;
  }
}

}  // namespace

RawSender::RawSender(uint32_t mark, const std::string& netns) {
  int error = 0;
  ipv4_ = socketIn(netns, AF_INET, SOCK_RAW, IPPROTO_RAW, error);
  if (error != 0) throw systemFailure("cannot open a raw socket", error);
  prepare(ipv4_.get(), mark);
  setOption(ipv4_.get(), IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE, kMtu);

  ipv6_ = socketIn(netns, AF_INET6, SOCK_RAW, IPPROTO_RAW, ipv6Error_);
  if (ipv6Error_ == EAFNOSUPPORT || ipv6Error_ == EPROTONOSUPPORT) return;
  if (ipv6Error_ != 0) throw systemFailure("cannot open a raw IPv6 socket", ipv6Error_);
  prepare(ipv6_.get(), mark);
  setOption(ipv6_.get(), IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE, kMtu);
  // IPPROTO_RAW takes whole packets by itself; kernels before 4.15 do not know the option.
  const int on = 1;
  setsockopt(ipv6_.get(), IPPROTO_IPV6, IPV6_HDRINCL, &on, sizeof on);
}

int RawSender::send(const uint8_t* packet, size_t length, uint32_t ifindex) {
  if (length < kIpv4HeaderBytes) return EINVAL;
  if (packet[0] >> 4 == 4) {
    const size_t headerLength = (packet[0] & 15) * 4u;
    if (headerLength < kIpv4HeaderBytes || headerLength > length || load16(packet + 2) != length) return EINVAL;
    sockaddr_in to{};
    to.sin_family = AF_INET;
    std::memcpy(&to.sin_addr, packet + 16, sizeof to.sin_addr);
    return sendTo(ipv4_.get(), packet, length, reinterpret_cast<const sockaddr*>(&to), sizeof to);
  }
  if (packet[0] >> 4 != 6 || length < kIpv6HeaderBytes || load16(packet + 4) != length - kIpv6HeaderBytes) {
    return EINVAL;
  }
  if (!ipv6_.open()) return ipv6Error_;
  sockaddr_in6 to{};
  to.sin6_family = AF_INET6;
  std::memcpy(&to.sin6_addr, packet + 24, sizeof to.sin6_addr);
  to.sin6_scope_id = ifindex;
  return sendTo(ipv6_.get(), packet, length, reinterpret_cast<const sockaddr*>(&to), sizeof to);
}

void RawSender::close() {
  ipv4_.reset();
  ipv6_.reset();
}

}  // namespace tcpcrypt
