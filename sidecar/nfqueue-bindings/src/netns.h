// Sockets that live in a chosen network namespace.
#pragma once

#include <string>

#include "file-descriptor.h"

namespace tcpcrypt {

/**
 * A socket in the network namespace at `netns` (empty: the caller's own). Throws `Failure` if the
 * namespace cannot be entered; else the socket, or -1 with `error` set to socket's errno.
 */
FileDescriptor socketIn(const std::string& netns, int family, int type, int protocol, int& error);

}  // namespace tcpcrypt
