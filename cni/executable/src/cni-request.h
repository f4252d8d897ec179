// A CNI call as the runtime makes it, parsed and checked: what comes out of here can be used as it is.
#pragma once
#include <string>
#include <vector>

namespace tcpcrypt {

enum class Verb { add, del, check, gc, status, version };

/** What the entry in the conflist may set. */
struct PluginSettings {
  std::string agentSocket = "/run/tcpcrypt-node/agent.sock";
  /** Without an agent no pod starts, but for those of `exemptNamespaces`. */
  bool failWithoutAgent = false;
  std::vector<std::string> exemptNamespaces = {"kube-system"};
};

struct CniRequest {
  Verb verb;
  std::string verbName;
  std::string cniVersion;
  std::string containerId;
  std::string netns;
  std::string interfaceName;
  std::string arguments;
  /** K8S_POD_NAMESPACE of CNI_ARGS; empty elsewhere than in Kubernetes. */
  std::string podNamespace;
  /** Standard input, as it was. */
  std::string config;
  /** Its `prevResult`, as it was; empty if there is none. */
  std::string previousResult;
  PluginSettings settings;
};

/** Oldest first. */
extern const std::vector<std::string> kCniVersions;

/** The variable, or "". */
std::string environment(const char* name);

/** Throws CniError 4 for a CNI_COMMAND that there is not. */
Verb parseVerb(const std::string& name);

/** All but the verb VERSION. Throws CniError: 1, 4, 6 or 7. */
CniRequest parseRequest(Verb verb, std::string config);

}  // namespace tcpcrypt
