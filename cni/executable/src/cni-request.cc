#include "cni-request.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "cni-error.h"
#include "json.h"

namespace tcpcrypt {

const std::vector<std::string> kCniVersions = {"0.3.1", "0.4.0", "1.0.0", "1.1.0"};

namespace {

constexpr size_t kInterfaceNameLimit = 15;
constexpr size_t kSocketPathLimit = 107;
constexpr size_t kExemptLimit = 64;

struct VerbRow {
  const char* name;
  Verb verb;
  const char* since;
};
constexpr VerbRow kVerbs[] = {
    {"ADD", Verb::add, "0.3.1"},   {"DEL", Verb::del, "0.3.1"},       {"CHECK", Verb::check, "0.4.0"},
    {"GC", Verb::gc, "1.1.0"},     {"STATUS", Verb::status, "1.1.0"}, {"VERSION", Verb::version, "0.3.1"},
};

const VerbRow& rowOf(Verb verb) {
  return *std::find_if(std::begin(kVerbs), std::end(kVerbs), [&](const VerbRow& row) { return row.verb == verb; });
}

bool alphanumeric(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }

/** Specification, section 1: a network's name and a container ID. */
bool isIdentifier(const std::string& text) {
  return !text.empty() && alphanumeric(text[0]) &&
         std::all_of(text.begin(), text.end(), [](char c) { return alphanumeric(c) || std::strchr("_.-", c); });
}

bool isInterfaceName(const std::string& text) {
  return !text.empty() && text.size() <= kInterfaceNameLimit && text != "." && text != ".." &&
         std::none_of(text.begin(), text.end(), [](unsigned char c) { return c <= ' ' || c == '/' || c == ':'; });
}

CniError invalidConfig(const std::string& message) { return {CniCode::invalidConfig, message}; }

std::string stringMember(const Json& config, const char* name, const std::string& otherwise) {
  const auto found = config.find(name);
  if (found == config.end()) return otherwise;
  if (!found->is_string()) throw invalidConfig(std::string(name) + " must be a string");
  return found->get<std::string>();
}

PluginSettings parseSettings(const Json& config) {
  PluginSettings settings;
  settings.agentSocket = stringMember(config, "agentSocket", settings.agentSocket);
  if (settings.agentSocket.substr(0, 1) != "/" || settings.agentSocket.size() > kSocketPathLimit) {
    throw invalidConfig("agentSocket must be an absolute path of at most 107 bytes");
  }
  const std::string unavailable = stringMember(config, "agentUnavailable", "Skip");
  if (unavailable != "Skip" && unavailable != "Fail") throw invalidConfig("agentUnavailable must be Fail or Skip");
  settings.failWithoutAgent = unavailable == "Fail";
  if (const auto found = config.find("exemptNamespaces"); found != config.end()) {
    const auto isName = [](const Json& name) { return name.is_string(); };
    if (!found->is_array() || found->size() > kExemptLimit || !std::all_of(found->begin(), found->end(), isName)) {
      throw invalidConfig("exemptNamespaces must be a list of at most 64 strings");
    }
    settings.exemptNamespaces = found->get<std::vector<std::string>>();
  }
  return settings;
}

/** One of CNI_ARGS's `KEY=VALUE;KEY=VALUE`, or "". */
std::string argument(const std::string& arguments, const std::string& name) {
  for (size_t at = 0; at < arguments.size();) {
    const size_t end = std::min(arguments.find(';', at), arguments.size());
    if (arguments.compare(at, name.size() + 1, name + "=") == 0) {
      return arguments.substr(at + name.size() + 1, end - at - name.size() - 1);
    }
    at = end + 1;
  }
  return "";
}

void checkVersion(Verb verb, const std::string& version) {
  const auto known = std::find(kCniVersions.begin(), kCniVersions.end(), version);
  if (known == kCniVersions.end()) {
    throw CniError(CniCode::incompatibleVersion, "cniVersion \"" + version + "\" is not supported",
                   "supported are 0.3.1, 0.4.0, 1.0.0 and 1.1.0");
  }
  const VerbRow& row = rowOf(verb);
  if (known < std::find(kCniVersions.begin(), kCniVersions.end(), row.since)) {
    throw CniError(CniCode::incompatibleVersion, std::string(row.name) + " needs cniVersion " + row.since + " or later",
                   "the configuration says " + version);
  }
}

void checkEnvironment(const CniRequest& request) {
  const auto wrong = [](const char* name, const char* why) {
    return CniError(CniCode::invalidEnvironment, std::string(name) + " " + why);
  };
  if (environment("CNI_PATH").empty()) throw wrong("CNI_PATH", "is missing");
  if (request.verb == Verb::gc || request.verb == Verb::status) return;
  if (!isIdentifier(request.containerId)) throw wrong("CNI_CONTAINERID", "is missing or no container ID");
  if (!isInterfaceName(request.interfaceName)) throw wrong("CNI_IFNAME", "is missing or no interface name");
  if (request.netns.empty() && request.verb != Verb::del) throw wrong("CNI_NETNS", "is missing");
}

}  // namespace

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

Verb parseVerb(const std::string& name) {
  for (const VerbRow& row : kVerbs) {
    if (name == row.name) return row.verb;
  }
  throw CniError(CniCode::invalidEnvironment, "there is no CNI_COMMAND " + name);
}

CniRequest parseRequest(Verb verb, std::string text) {
  CniRequest request;
  request.verb = verb;
  request.verbName = rowOf(verb).name;
  request.config = std::move(text);
  const auto config = parseJson(request.config);
  if (!config || !config->is_object()) {
    throw CniError(CniCode::decoding, "the network configuration on standard input is no JSON object");
  }
  request.cniVersion = stringMember(*config, "cniVersion", "");
  checkVersion(verb, request.cniVersion);
  if (!isIdentifier(stringMember(*config, "name", ""))) throw invalidConfig("name is missing or no network name");
  request.settings = parseSettings(*config);
  request.containerId = environment("CNI_CONTAINERID");
  request.netns = environment("CNI_NETNS");
  request.interfaceName = environment("CNI_IFNAME");
  request.arguments = environment("CNI_ARGS");
  request.podNamespace = argument(request.arguments, "K8S_POD_NAMESPACE");
  checkEnvironment(request);
  const auto previous = config->find("prevResult");
  if (previous != config->end() && previous->is_object()) {
    request.previousResult = rawMembers(request.config)["prevResult"];
  } else if (verb == Verb::add || verb == Verb::check || previous != config->end()) {
    throw invalidConfig("prevResult is missing or no object: this plugin is for the end of a chain");
  }
  return request;
}

}  // namespace tcpcrypt
