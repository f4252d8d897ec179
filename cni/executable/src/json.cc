#include "json.h"

#include <set>
#include <vector>

namespace tcpcrypt {

namespace {

constexpr std::string_view kSpace = " \t\r\n";

/** The end of the string literal that begins at `at`. */
size_t endOfString(std::string_view text, size_t at) {
  for (size_t i = at + 1; i < text.size(); i++) {
    if (text[i] == '\\') {
      i++;
    } else if (text[i] == '"') {
      return i + 1;
    }
  }
  return text.size();
}

/** The end of the value that begins at `at`, in valid JSON: brackets balance, and strings hide theirs. */
size_t endOfValue(std::string_view text, size_t at) {
  int depth = 0;
  for (size_t i = at; i < text.size();) {
    const char c = text[i];
    if (c == '"') {
      i = endOfString(text, i);
      if (depth == 0) return i;
      continue;
    }
    if (c == '{' || c == '[') depth++;
    if (c == '}' || c == ']') {
      if (depth == 0) return i;
      depth--;
      if (depth == 0) return i + 1;
    } else if (depth == 0 && (c == ',' || kSpace.find(c) != std::string_view::npos)) {
      return i;
    }
    i++;
  }
  return text.size();
}

size_t skipSpace(std::string_view text, size_t at) { return std::min(text.find_first_not_of(kSpace, at), text.size()); }

}  // namespace

std::optional<Json> parseJson(std::string_view text) {
  using Event = Json::parse_event_t;
  bool refused = false;
  std::vector<std::set<std::string>> names;
  // What the callback refuses is left out of the tree, so depth costs nothing.
  const auto check = [&](int depth, Event event, Json& parsed) {
    if (event == Event::object_start || event == Event::array_start) {
      names.emplace_back();
      refused |= depth >= kJsonDepthLimit;
    } else if (event == Event::object_end || event == Event::array_end) {
      names.pop_back();
    } else if (event == Event::key) {
      refused |= !names.back().insert(parsed.get<std::string>()).second;
    }
    return !refused;
  };
  Json root = Json::parse(text, check, false);
  if (refused || root.is_discarded()) return std::nullopt;
  return root;
}

std::map<std::string, std::string_view> rawMembers(std::string_view text) {
  std::map<std::string, std::string_view> members;
  size_t at = skipSpace(text, 0);
  if (at >= text.size() || text[at] != '{') return members;
  for (at = skipSpace(text, at + 1); at < text.size() && text[at] == '"';) {
    const size_t nameEnd = endOfString(text, at);
    const auto name = parseJson(text.substr(at, nameEnd - at));
    at = skipSpace(text, text.find(':', nameEnd) + 1);
    const size_t valueEnd = endOfValue(text, at);
    if (name && name->is_string()) members[name->get<std::string>()] = text.substr(at, valueEnd - at);
    at = skipSpace(text, valueEnd);
    if (at < text.size() && text[at] == ',') at = skipSpace(text, at + 1);
  }
  return members;
}

std::string writeJson(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace tcpcrypt
