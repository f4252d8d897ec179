// The CNI plugin: checks the call, hands it to the node agent, and answers the runtime. It changes nothing itself. An
// agent that does not answer within the deadline counts as absent, and then no pod waits for it, unless the entry in
// the conflist says `agentUnavailable: Fail`.
#include "plugin.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdio>

#include "cni-error.h"
#include "cni-request.h"
#include "http.h"
#include "json.h"

namespace tcpcrypt {

namespace {

constexpr std::chrono::milliseconds kAgentDeadline{2000};
constexpr int kFirstOwnCode = 100;

std::string errorText(const std::string& cniVersion, const CniError& error) {
  Json object = {{"cniVersion", cniVersion}, {"code", error.code}, {"msg", error.what()}};
  if (!error.details.empty()) object["details"] = error.details;
  return writeJson(object);
}

/** Answers even a runtime that says nothing of itself. */
std::string versionText(const std::string& config) {
  const auto asked = parseJson(config);
  std::string version = kCniVersions.back();
  if (asked && asked->is_object() && asked->contains("cniVersion") && (*asked)["cniVersion"].is_string()) {
    version = (*asked)["cniVersion"].get<std::string>();
  }
  return writeJson({{"cniVersion", version}, {"supportedVersions", kCniVersions}});
}

/** Spliced, not rebuilt: the agent sees the very configuration. */
std::string agentRequest(const CniRequest& request) {
  std::string text = writeJson({{"command", request.verbName},
                                {"containerId", request.containerId},
                                {"netns", request.netns},
                                {"ifname", request.interfaceName},
                                {"args", request.arguments}});
  text.pop_back();
  return text.append(",\"config\":").append(request.config).append("}");
}

/** Throws the agent's own error. False, and why, if there is no agent that answers. */
bool askAgent(const CniRequest& request, std::string& why) {
  const Reply reply =
      askOverHttp(request.settings.agentSocket, "/v1/cni", agentRequest(request), Deadline::after(kAgentDeadline));
  why = reply.status == 0 ? reply.body : "HTTP status " + std::to_string(reply.status);
  if (reply.status != 200) return false;
  const auto answer = parseJson(reply.body);
  why = "an answer that cannot be understood";
  if (!answer || !answer->is_object() || !answer->contains("code")) return false;
  const Json& code = (*answer)["code"];
  if (!code.is_number_integer()) return false;
  if (code == 0) return true;
  const auto text = [&](const char* name) {
    const auto found = answer->find(name);
    return found != answer->end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  throw CniError(code.get<int>(), text("msg"), text("details"));
}

bool isThere(const std::string& path) {
  struct stat status;
  return !path.empty() && stat(path.c_str(), &status) == 0;
}

/** What is undone or looked at is no reason to fail where there is nothing left. */
bool mayFailWithoutAgent(const CniRequest& request) {
  if (!request.settings.failWithoutAgent) return false;
  switch (request.verb) {
    case Verb::add:
    case Verb::check: {
      const auto& exempt = request.settings.exemptNamespaces;
      // What is no pod is no business of ours.
      const bool spared = request.podNamespace.empty() ||
                          std::find(exempt.begin(), exempt.end(), request.podNamespace) != exempt.end();
      return !spared && (request.verb == Verb::add || isThere(request.netns));
    }
    case Verb::status:
      return true;
    default:
      return false;
  }
}

void perform(const CniRequest& request) {
  if (request.verb == Verb::check && !isThere(request.netns)) return;
  std::string why;
  if (askAgent(request, why)) return;
  const std::string message = "the node agent at " + request.settings.agentSocket + " does not answer";
  if (!mayFailWithoutAgent(request)) {
    std::fprintf(stderr, "tcpcrypt: %s: %s: skipped: %s\n", request.verbName.c_str(), message.c_str(), why.c_str());
    return;
  }
  throw CniError(request.verb == Verb::status ? CniCode::notAvailable : CniCode::tryAgainLater, message, why);
}

}  // namespace

PluginOutput runPlugin(const std::string& verbName, std::string config) {
  std::string cniVersion = kCniVersions.back();
  try {
    const Verb verb = parseVerb(verbName);
    if (verb == Verb::version) return {versionText(config), 0};
    const CniRequest request = parseRequest(verb, std::move(config));
    cniVersion = request.cniVersion;
    perform(request);
    return {verb == Verb::add ? request.previousResult : "", 0};
  } catch (const CniError& error) {
    return {errorText(cniVersion, error), 1};
  } catch (const std::exception& error) {
    return {errorText(cniVersion, CniError(kFirstOwnCode, "a bug in tcpcrypt", error.what())), 1};
  }
}

}  // namespace tcpcrypt
