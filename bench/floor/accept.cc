// The lower bound of any packet rewriter: takes each packet of a queue whole, super-segments too, and lets it go on as
// it is. Uses the project's own queue (sidecar/nfqueue-bindings/src) without JavaScript. `accept QUEUE`; writes "ready".
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "failure.h"
#include "queue.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: accept QUEUE\n", stderr);
    return 2;
  }
  try {
    tcpcrypt::QueueOptions options;
    options.number = static_cast<uint16_t>(std::atoi(argv[1]));
    options.gso = true;
    options.maxLength = 16384;
    options.copyRangeBytes = 0xffff;
    options.batch = 64;
    options.receiveBufferBytes = 16 << 20;
    tcpcrypt::Queue queue(options);
    const auto ring = std::make_unique_for_overwrite<uint8_t[]>(options.batch * tcpcrypt::Queue::kSlotBytes);
    std::vector<tcpcrypt::QueuedPacket> packets(options.batch);
    std::puts("ready");
    std::fflush(stdout);
    for (;;) {
      const size_t count = queue.receive(-1, ring.get(), packets.data());
      for (size_t i = 0; i < count; i++) queue.verdict(packets[i].id, 1 /* NF_ACCEPT */, {}, nullptr, {});
      queue.flush();
    }
  } catch (const tcpcrypt::Failure& failure) {
    std::fprintf(stderr, "%s: %s\n", failure.code, failure.what());
    return 1;
  }
}
