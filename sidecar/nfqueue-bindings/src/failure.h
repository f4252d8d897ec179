// An operation that the system refused: a code of errors/catalogue.ts and a message.
#pragma once

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>

namespace tcpcrypt {

struct Failure : std::runtime_error {
  Failure(const char* code, const std::string& message) : std::runtime_error(message), code(code) {}
  const char* code;
};

inline constexpr const char* kNotRoot = "ERR_TCPCRYPT_NOT_ROOT";
inline constexpr const char* kNoNfqueue = "ERR_TCPCRYPT_NO_NFQUEUE";
inline constexpr const char* kQueueBusy = "ERR_TCPCRYPT_QUEUE_BUSY";
inline constexpr const char* kNetlink = "ERR_TCPCRYPT_NETLINK";
inline constexpr const char* kInternal = "ERR_TCPCRYPT_INTERNAL";

/** `what` failed with errno `error`. */
inline Failure systemFailure(const std::string& what, int error) {
  const char* code = error == EPERM || error == EACCES ? kNotRoot : kNetlink;
  return {code, what + ": " + std::strerror(error)};
}

}  // namespace tcpcrypt
