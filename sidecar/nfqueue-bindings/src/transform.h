// The transforms of one direction of one key generation, wire.md section 5: what crypto/asm.ts defines, with
// the contexts of the keys kept, so that a packet costs neither an allocation nor a key schedule. Without
// JavaScript. Used by one thread at a time.
#pragma once

#include "keystream.h"
#include "mac.h"

namespace tcpcrypt {

/** A segment in place. All of it lies within one buffer but Assoc-Data. */
struct SealedSegment {
  uint8_t* data;
  size_t length;
  uint8_t* tag;
  ConstBytes assoc;
  /** Stream offset of the first byte of data, and the acknowledgement offset, 0 without ACK. */
  uint64_t offset;
  uint64_t ackOffset;
};

class Transform {
 public:
  struct Keys {
    ConstBytes enc;
    ConstBytes mac;
    ConstBytes ack;
  };

  /** Which transforms a suite has; an aggregate twin (id + 1) has the same. */
  struct Suite {
    uint32_t id;
    Keystream::Kind keystream;
    enum { kHmac, kCmac, kGhash } mac;
    enum { kAes, kAckHmac } ackMac;
    size_t ackKeyBytes;
  };
  static constexpr size_t kMacKeyBytes = 32;
  /** Null if there is no such suite. */
  static const Suite* suite(uint32_t id);

  /** Keys of the lengths that the suite has; they are not kept. Throws `Failure`. */
  Transform(const Suite& suite, const Keys& keys);

  void crypt(uint64_t offset, uint8_t* data, size_t length) { keystream_.apply(offset, data, length); }
  Tag tag(ConstBytes ciphertext, ConstBytes assoc, uint64_t ackOffset);

  /** Encrypts the data and writes the tag. */
  void seal(const SealedSegment& segment);
  /** Compares the tag in constant time; decrypts the data only if it is right. */
  bool open(const SealedSegment& segment);

 private:
  Keystream keystream_;
  SegmentMac segmentMac_;
  AckMac ackMac_;
};

}  // namespace tcpcrypt
