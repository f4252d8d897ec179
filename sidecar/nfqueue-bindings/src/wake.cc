#include "wake.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>
#include <mutex>
#include <set>

#include "failure.h"
#include "file-descriptor.h"

namespace tcpcrypt {

namespace {

std::mutex mutex;
std::set<int> descriptors;

}  // namespace

int openWake() {
  FileDescriptor fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!fd.open()) throw systemFailure("cannot open an event descriptor", errno);
  const std::lock_guard lock(mutex);
  descriptors.insert(fd.get());
  return fd.release();
}

void closeWake(int fd) {
  const std::lock_guard lock(mutex);
  if (descriptors.erase(fd) != 0) close(fd);
}

bool wake(int fd) {
  // The lock is held while writing, so that the descriptor cannot be closed and given out anew meanwhile.
  const std::lock_guard lock(mutex);
  if (!descriptors.contains(fd)) return false;
  const uint64_t one = 1;
  // EAGAIN means that the counter is full: the sleeper is woken all the same.
  return write(fd, &one, sizeof one) == sizeof one || errno == EAGAIN;
}

bool takeWake(int fd) {
  uint64_t count;
  return read(fd, &count, sizeof count) == sizeof count;
}

}  // namespace tcpcrypt
