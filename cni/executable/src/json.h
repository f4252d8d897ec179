// JSON from outside: strict (RFC 8259, no comments, no name twice), with limits, and able to hand on a part byte for
// byte. The grammar is nlohmann/json's; this adds what it does not do.
#pragma once
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace tcpcrypt {

using Json = nlohmann::json;

/** Nesting beyond this is refused: nothing that CNI exchanges comes near. */
constexpr int kJsonDepthLimit = 64;

/** nullopt if it is not one JSON value, nested too deep, or has a name twice in one object. */
std::optional<Json> parseJson(std::string_view text);

/** The members of an object with their values as they were written. `text` must have passed `parseJson`. */
std::map<std::string, std::string_view> rawMembers(std::string_view text);

/** For output: what is not UTF-8 is replaced, so this never throws. */
std::string writeJson(const Json& value);

}  // namespace tcpcrypt
