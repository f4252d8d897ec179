#pragma once
#include <cstdint>

namespace tcpcrypt {

/**
 * Ends the sockets whose connection is marked as encrypted (netfilter/marks.ts), in this network namespace: their
 * applications get an error at once instead of a stall. Needs NET_ADMIN. Returns how many were ended.
 */
int resetEncrypted(uint32_t markMask);

}  // namespace tcpcrypt
