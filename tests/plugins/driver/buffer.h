// Tensors on the heap of exactly the size that a kernel may touch, so that AddressSanitizer sees the first byte beyond.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "common/dtype.h"

enum class Element { kFloat32, kFloat16, kBFloat16, kInt8, kInt32 };

constexpr trtbert::DType kTypes[] = {trtbert::DType::kFloat32, trtbert::DType::kFloat16, trtbert::DType::kBFloat16};

Element element_of(trtbert::DType dtype);

// Random numbers that are the same on every machine.
uint64_t next_random();
int64_t random_below(int64_t limit);

class Tensor {
 public:
  // Random values: floats in -range .. range, INT8 all it has, INT32 zeros. Its address is a multiple of 16, or of one element only.
  Tensor(Element element, int64_t count, float range = 1.0f, bool is_unaligned = false);

  void* data() { return memory_.get() + offset_; }
  int32_t* int32() { return static_cast<int32_t*>(data()); }
  uint64_t hash() const;

 private:
  size_t offset_, bytes_;
  std::unique_ptr<unsigned char[]> memory_;
};
