// The kernel's list of TCP sockets, as it gives it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace tcpcrypt {

/**
 * Dumps all TCP sockets of one family (AF_INET or AF_INET6), every state, with their tcp_info: the netlink
 * messages as they come, one behind the other, each on a multiple of 4. Throws `Failure`; also when they
 * take more than `limitBytes`, for a list that is cut would look like sockets that are gone.
 */
std::vector<uint8_t> dumpTcpSockets(uint8_t family, const std::string& netns, size_t limitBytes);

}  // namespace tcpcrypt
