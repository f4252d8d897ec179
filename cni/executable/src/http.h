// One HTTP request over a Unix socket, with a deadline for all of it. Enough for the two servers that this program
// talks to (the node agent's, the sidecar's); what they answer is read with a limit and trusted with nothing.
#pragma once
#include <string>
#include <string_view>

#include "deadline.h"

namespace tcpcrypt {

struct Reply {
  /** 0: no whole answer came in time; `body` says why. */
  int status = 0;
  std::string body;
};

/** `content` empty: a GET, else a POST of JSON. */
Reply askOverHttp(const std::string& socketPath, std::string_view target, std::string_view content,
                  Deadline deadline);

/** What a server sent until it closed, taken apart. Status 0 if it is no whole answer. */
Reply parseReply(std::string_view bytes);

}  // namespace tcpcrypt
