// Tensors on the heap, their random values and their hash.
#include "buffer.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace {

uint64_t state = 88172645463325252u;

size_t bytes_of(Element element) {
  switch (element) {
    case Element::kFloat16:
    case Element::kBFloat16:
      return 2;
    case Element::kInt8:
      return 1;
    default:
      return 4;
  }
}

float random_float(float range) { return (static_cast<float>(next_random() >> 40) / (1 << 23) - 1.0f) * range; }

void set_random(void* data, Element element, int64_t i, float range) {
  switch (element) {
    case Element::kFloat32:
      static_cast<float*>(data)[i] = random_float(range);
      break;
    case Element::kFloat16:
      static_cast<__half*>(data)[i] = __float2half_rn(random_float(range));
      break;
    case Element::kBFloat16:
      static_cast<__nv_bfloat16*>(data)[i] = __float2bfloat16_rn(random_float(range));
      break;
    case Element::kInt8:
      static_cast<int8_t*>(data)[i] = static_cast<int8_t>(next_random() >> 56);
      break;
    case Element::kInt32:
      static_cast<int32_t*>(data)[i] = 0;
  }
}

}  // namespace

Element element_of(trtbert::DType dtype) {
  return dtype == trtbert::DType::kFloat32 ? Element::kFloat32 : dtype == trtbert::DType::kFloat16 ? Element::kFloat16 : Element::kBFloat16;
}

uint64_t next_random() {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

int64_t random_below(int64_t limit) { return static_cast<int64_t>(next_random() >> 33) % limit; }

Tensor::Tensor(Element element, int64_t count, float range, bool is_unaligned)
    : offset_(is_unaligned ? bytes_of(element) : 0),
      bytes_(static_cast<size_t>(count) * bytes_of(element)),
      memory_(new unsigned char[offset_ + bytes_]) {
  for (int64_t i = 0; i < count; ++i) set_random(data(), element, i, range);
}

// FNV-1a.
uint64_t Tensor::hash() const {
  uint64_t hash = 14695981039346656037u;
  for (size_t i = 0; i < bytes_; ++i) hash = (hash ^ memory_[offset_ + i]) * 1099511628211u;
  return hash;
}
