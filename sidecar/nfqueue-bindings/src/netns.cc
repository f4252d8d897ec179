#include "netns.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/socket.h>

#include <system_error>
#include <thread>

#include "failure.h"

namespace tcpcrypt {

namespace {

FileDescriptor openSocket(int family, int type, int protocol, int& error) {
  FileDescriptor fd(socket(family, type | SOCK_CLOEXEC, protocol));
  error = fd.open() ? 0 : errno;
  return fd;
}

}  // namespace

FileDescriptor socketIn(const std::string& netns, int family, int type, int protocol, int& error) {
  if (netns.empty()) return openSocket(family, type, protocol, error);

  FileDescriptor ns(open(netns.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!ns.open()) throw systemFailure("cannot open the network namespace " + netns, errno);

  // A namespace belongs to a thread, a socket to the namespace that it was made in. A thread of its own
  // enters and ends, so the caller's thread stays where it was whatever fails.
  FileDescriptor fd;
  int entered = 0;
  try {
    std::thread([&] {
      entered = setns(ns.get(), CLONE_NEWNET) == 0 ? 0 : errno;
      if (entered == 0) fd = openSocket(family, type, protocol, error);
    }).join();
  } catch (const std::system_error& problem) {
    throw Failure(kNetlink, std::string("cannot start a thread for the network namespace: ") + problem.what());
  }
  if (entered != 0) throw systemFailure("cannot enter the network namespace " + netns, entered);
  return fd;
}

}  // namespace tcpcrypt
