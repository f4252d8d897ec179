#include "transform.h"

#include <openssl/crypto.h>

#include <algorithm>

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

AckMac ackMacOf(const Transform::Suite& suite, ConstBytes key) {
  if (suite.ackMac == Transform::Suite::kAckHmac) return HmacSha256(key.data);
  return AesBlock(key.data, key.length);
}

Tag macOf(AesBlock& aes, const Tag& block) { return aes.encrypt(block); }
Tag macOf(HmacSha256& hmac, const Tag& block) { return hmac.compute({block.data(), block.size()}, {}); }

}  // namespace

const Transform::Suite* Transform::suite(uint32_t id) {
  for (const Suite& suite : kSuites) {
    if (suite.id == (id & ~1u)) return &suite;
  }
  return nullptr;
}

Transform::Transform(const Suite& suite, const Keys& keys)
    : keystream_(suite.keystream, keys.enc.data),
      segmentMac_(segmentMacOf(suite, keys.mac.data)),
      ackMac_(ackMacOf(suite, keys.ack)) {}

Tag Transform::tag(ConstBytes ciphertext, ConstBytes assoc, uint64_t ackOffset) {
  Tag tag = std::visit([&](auto& mac) { return mac.compute(ciphertext, assoc); }, segmentMac_);
  Tag ackBlock{};
  store64(ackBlock.data() + 8, ackOffset);
  const Tag ackTag = std::visit([&](auto& mac) { return macOf(mac, ackBlock); }, ackMac_);
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
