// The transforms of one direction of one key generation, wire.md section 5: what crypto/asm.ts defines. OpenSSL's
// contexts, which take longer to make than a short connection's packets to seal, are not its own: those of each thread go
// from transform to transform, and a transform that finds them as it left them costs neither an allocation nor a key
// schedule. Without JavaScript. Used by one thread, the one that made it, which knows it by its number.
#pragma once

#include <memory>
#include <unordered_map>

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
  /** Which transforms a suite has; an aggregate twin (id + 1) has the same. */
  struct Suite {
    uint32_t id;
    Keystream::Kind keystream;
    enum { kHmac, kCmac, kGhash } mac;
    enum { kAes, kAckHmac } ackMac;
    size_t ackKeyBytes;
  };
  /** Of k_cs or k_sc. */
  static constexpr size_t kDirectionKeyBytes = 32;
  /** Null if there is no such suite. */
  static const Suite* suite(uint32_t id);

  /** Makes one of this thread's, which lives until `destroy`, and returns its number, which no other ever has. */
  static uint64_t make(const Suite& suite, const uint8_t* directionKey);
  /** Null if there is none of this number, or no more. */
  static Transform* find(uint64_t number);
  static void destroy(uint64_t number);
  /** How many of this thread's live. */
  static size_t count();

  /** Derives its keys (wire.md section 3). */
  Transform(const Suite& suite, const uint8_t* directionKey, uint64_t number);
  Transform(const Transform&) = delete;
  /** Erases the keys, and what contexts hold of them. */
  ~Transform();

  void crypt(uint64_t offset, uint8_t* data, size_t length) { ciphers().keystream.apply(offset, data, length); }
  Tag tag(ConstBytes ciphertext, ConstBytes assoc, uint64_t ackOffset);

  /** Encrypts the data and writes the tag. */
  void seal(const SealedSegment& segment);
  /** Compares the tag in constant time; decrypts the data only if it is right. */
  bool open(const SealedSegment& segment);

 private:
  struct Keys {
    uint8_t enc[32];
    uint8_t mac[32];
    uint8_t ack[32];
  };
  /** OpenSSL's contexts for one suite, under one transform's keys. */
  struct Ciphers {
    Ciphers(const Suite& suite, const Keys& keys);
    void rekey(const Keys& keys);

    Keystream keystream;
    SegmentMac segmentMac;
    AckMac ackMac;
  };
  /** A place for contexts, and who used them last. */
  struct Slot {
    uint64_t owner = 0;
    const Suite* suite = nullptr;
    std::unique_ptr<Ciphers> ciphers;
  };
  static constexpr size_t kSlots = 32;
  /** What a thread has; the transforms, which need the slots to end, end first. */
  struct Thread {
    Slot slots[kSlots];
    std::unordered_map<uint64_t, Transform> transforms;
  };
  static Thread& thread();

  /** The place of this transform's contexts. Others have the same. */
  Slot& slot() const;
  /** Contexts under its keys. Throws `Failure`. */
  Ciphers& ciphers();

  const Suite& suite_;
  const uint64_t number_;
  Keys keys_;
};

}  // namespace tcpcrypt
