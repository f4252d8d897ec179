#pragma once
#include <stdexcept>
#include <string>

namespace tcpcrypt {

/** Error codes of the CNI specification 1.1, section 5; from 100 on they are the plugin's own. */
enum class CniCode {
  incompatibleVersion = 1,
  invalidEnvironment = 4,
  io = 5,
  decoding = 6,
  invalidConfig = 7,
  tryAgainLater = 11,
  notAvailable = 50,
};

/** Ends the call: printed as the specification's error object, exit status 1. */
struct CniError : std::runtime_error {
  CniError(CniCode c, const std::string& message, std::string more = "")
      : CniError(static_cast<int>(c), message, std::move(more)) {}
  CniError(int c, const std::string& message, std::string more)
      : std::runtime_error(message), code(c), details(std::move(more)) {}
  int code;
  std::string details;
};

}  // namespace tcpcrypt
