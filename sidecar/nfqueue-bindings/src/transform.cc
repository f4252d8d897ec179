#include "transform.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <atomic>

namespace tcpcrypt {

namespace {

using Kind = Keystream::Kind;

constexpr Transform::Suite kSuites[] = {
    {0x100, Kind::kAes128Ctr, Transform::Suite::kHmac, Transform::Suite::kAes, 16},
    {0x300, Kind::kAes128Ctr, Transform::Suite::kCmac, Transform::Suite::kAes, 16},
    {0x400, Kind::kAes256Ctr, Transform::Suite::kHmac, Transform::Suite::kAes, 32},
    {0x500, Kind::kChaCha20, Transform::Suite::kHmac, Transform::Suite::kAckHmac, 32},
    {0x600, Kind::kAes128Ctr, Transform::Suite::kGhash, Transform::Suite::kAes, 16},
};

SegmentMac segmentMacOf(const Transform::Suite& suite, const uint8_t* key) {
  switch (suite.mac) {
    case Transform::Suite::kHmac:
      return HmacSha256(key);
    case Transform::Suite::kCmac:
      return CmacAes128(key);
    default:
      return GhashThenAes(key);
  }
}

AckMac ackMacOf(const Transform::Suite& suite, const uint8_t* key) {
  if (suite.ackMac == Transform::Suite::kAckHmac) return HmacSha256(key);
  return AesBlock(key, suite.ackKeyBytes);
}

/** CPRF of wire.md section 3, 32 bytes: shorter keys are their beginning. */
void cprf(const HmacSha256& hmac, uint8_t tag, uint8_t* out) {
  const uint8_t tagAndCounter[] = {tag, 1};
  hmac.compute({tagAndCounter, sizeof tagAndCounter}, {}, out);
}

std::atomic<uint64_t> lastNumber{0};

Tag macOf(AesBlock& aes, const Tag& block) { return aes.encrypt(block); }
Tag macOf(HmacSha256& hmac, const Tag& block) { return hmac.compute({block.data(), block.size()}, {}); }

}  // namespace

const Transform::Suite* Transform::suite(uint32_t id) {
  for (const Suite& suite : kSuites) {
    if (suite.id == (id & ~1u)) return &suite;
  }
  return nullptr;
}

Transform::Ciphers::Ciphers(const Suite& suite, const Keys& keys)
    : keystream(suite.keystream, keys.enc), segmentMac(segmentMacOf(suite, keys.mac)), ackMac(ackMacOf(suite, keys.ack)) {}

void Transform::Ciphers::rekey(const Keys& keys) {
  keystream.rekey(keys.enc);
  std::visit([&](auto& mac) { mac.rekey(keys.mac); }, segmentMac);
  std::visit([&](auto& mac) { mac.rekey(keys.ack); }, ackMac);
}

uint64_t Transform::make(const Suite& suite, const uint8_t* directionKey) {
  const uint64_t number = ++lastNumber;
  thread().transforms.try_emplace(number, suite, directionKey, number);
  return number;
}

Transform* Transform::find(uint64_t number) {
  const auto found = thread().transforms.find(number);
  return found == thread().transforms.end() ? nullptr : &found->second;
}

void Transform::destroy(uint64_t number) { thread().transforms.erase(number); }

size_t Transform::count() { return thread().transforms.size(); }

Transform::Thread& Transform::thread() {
  thread_local Thread thread;
  return thread;
}

Transform::Transform(const Suite& suite, const uint8_t* directionKey, uint64_t number) : suite_(suite), number_(number) {
  const HmacSha256 hmac(directionKey);
  cprf(hmac, 6, keys_.enc);
  cprf(hmac, 7, keys_.mac);
  cprf(hmac, 8, keys_.ack);
}

Transform::~Transform() {
  OPENSSL_cleanse(&keys_, sizeof keys_);
  Slot& slot = this->slot();
  if (slot.owner != number_) return;
  slot.owner = 0;
  try {
    // All zeros by now. The cipher may have kept the rest of a block of keystream, which a byte puts another in place of.
    slot.ciphers->rekey(keys_);
    uint8_t byte = 0;
    slot.ciphers->keystream.apply(1, &byte, 1);
  } catch (const Failure&) {
    slot.ciphers.reset();
  }
}

Transform::Slot& Transform::slot() const { return thread().slots[number_ % kSlots]; }

Transform::Ciphers& Transform::ciphers() {
  Slot& slot = this->slot();
  if (slot.owner == number_) return *slot.ciphers;
  // Until all of it has the new keys it is nobody's.
  slot.owner = 0;
  if (slot.suite == &suite_ && slot.ciphers) {
    slot.ciphers->rekey(keys_);
  } else {
    slot.ciphers = std::make_unique<Ciphers>(suite_, keys_);
    slot.suite = &suite_;
  }
  slot.owner = number_;
  return *slot.ciphers;
}

Tag Transform::tag(ConstBytes ciphertext, ConstBytes assoc, uint64_t ackOffset) {
  Ciphers& ciphers = this->ciphers();
  Tag tag = std::visit([&](auto& mac) { return mac.compute(ciphertext, assoc); }, ciphers.segmentMac);
  Tag ackBlock{};
  store64(ackBlock.data() + 8, ackOffset);
  const Tag ackTag = std::visit([&](auto& mac) { return macOf(mac, ackBlock); }, ciphers.ackMac);
  for (size_t i = 0; i < tag.size(); i++) tag[i] ^= ackTag[i];
  return tag;
}

void Transform::seal(const SealedSegment& segment) {
  crypt(segment.offset, segment.data, segment.length);
  const Tag made = tag({segment.data, segment.length}, segment.assoc, segment.ackOffset);
  std::copy(made.begin(), made.end(), segment.tag);
}

bool Transform::open(const SealedSegment& segment) {
  const Tag expected = tag({segment.data, segment.length}, segment.assoc, segment.ackOffset);
  if (CRYPTO_memcmp(expected.data(), segment.tag, expected.size()) != 0) return false;
  crypt(segment.offset, segment.data, segment.length);
  return true;
}

}  // namespace tcpcrypt
