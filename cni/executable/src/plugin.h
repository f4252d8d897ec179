#pragma once
#include <string>

namespace tcpcrypt {

struct PluginOutput {
  /** For standard output: a result, an error object, or nothing. */
  std::string text;
  int status;
};

/** One CNI call: CNI_COMMAND names the verb, `config` is what came on standard input. */
PluginOutput runPlugin(const std::string& verbName, std::string config);

}  // namespace tcpcrypt
