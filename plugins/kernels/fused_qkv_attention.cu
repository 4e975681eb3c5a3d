// Attention of packed or padded sequences: the kernel that fits the type, and the head padded to what it is compiled for.
#include "kernels/fused_qkv_attention.h"

#include "common/device.h"
#include "common/dispatch.cuh"
#include "kernels/attention_float.cuh"
#include "kernels/attention_half.cuh"
#include "kernels/attention_int8.cuh"

namespace trtbert {
namespace {

constexpr int kInt8Capability = 75;
constexpr int kBFloat16Capability = 80;
constexpr int64_t kMaxLength = INT32_MAX - 64;  // a tile more is still an int

// Calls use(integral_constant<int, kHead>), the smallest head that the kernels are compiled for which holds `head_size`.
template <typename Use>
cudaError_t dispatch_head(int head_size, Use&& use) {
  if (head_size <= 16) return use(std::integral_constant<int, 16>{});
  if (head_size <= 32) return use(std::integral_constant<int, 32>{});
  if (head_size <= 48) return use(std::integral_constant<int, 48>{});
  if (head_size <= 64) return use(std::integral_constant<int, 64>{});
  if (head_size <= 96) return use(std::integral_constant<int, 96>{});
  return use(std::integral_constant<int, 128>{});
}

cudaError_t start(void (*kernel)(QkvAttentionParams), int queries, QkvAttentionParams const& p, cudaStream_t stream) {
  // The tiles of packed sequences are at most those of the tokens in one sequence, and one more for each sequence.
  int64_t const tiles =
      p.cu_seqlens == nullptr ? p.batch * ceil_div<int64_t>(p.length, queries) : ceil_div<int64_t>(p.tokens, queries) + p.batch;
  if (tiles > INT32_MAX) return cudaErrorInvalidValue;
  dim3 const grid(static_cast<unsigned>(tiles), static_cast<unsigned>(p.num_heads / p.num_kv_heads), static_cast<unsigned>(p.num_kv_heads));
  return launch(kernel, grid, kThreads, stream, p);
}

bool has_products_in_int8(QkvAttentionParams const& p) { return p.q_scale != 0.0f; }

bool is_valid(QkvAttentionParams const& p) {
  bool const is_packed = p.cu_seqlens != nullptr;
  bool const has_head = p.head_size >= 8 && p.head_size <= 128 && p.head_size % 8 == 0;
  bool const has_heads =
      p.num_heads >= 1 && p.num_heads <= static_cast<int>(kMaxGridYZ) && p.num_kv_heads >= 1 && p.num_heads % p.num_kv_heads == 0;
  bool const has_sizes = p.batch >= 0 && p.batch <= INT32_MAX &&
                         (is_packed ? p.tokens >= 0 && p.tokens <= kMaxLength : p.length >= 0 && p.length <= kMaxLength);
  bool const has_mask = is_packed ? p.mask == nullptr && p.bias == nullptr : p.mask != nullptr;
  bool const has_bias = p.bias == nullptr || p.bias_batch == 1 || p.bias_batch == p.batch;
  bool const is_int8 = has_products_in_int8(p);
  bool const has_scales = (p.k_scale != 0.0f) == is_int8 && (p.v_scale != 0.0f) == is_int8 && (p.probability_scale != 0.0f) == is_int8;
  return has_head && has_heads && has_sizes && has_mask && has_bias && has_scales && is_aligned(p.qkv, p.y);
}

}  // namespace

cudaError_t fused_qkv_attention(DType dtype, QkvAttentionParams const& p, cudaStream_t stream) {
  if (p.batch == 0 || (p.cu_seqlens == nullptr ? p.length : p.tokens) == 0) return cudaSuccess;  // its pointers may be null
  if (!is_valid(p)) return cudaErrorInvalidValue;
  if (has_products_in_int8(p)) {
    if (cudaError_t const error = require_capability(kInt8Capability); error != cudaSuccess) return error;
  } else if (dtype == DType::kBFloat16) {
    if (cudaError_t const error = require_capability(kBFloat16Capability); error != cudaSuccess) return error;
  }
  return dispatch_float(dtype, [&](auto t) {
    using T = decltype(t);
    return dispatch_head(p.head_size, [&](auto head) {
      constexpr int kHead = decltype(head)::value;
      if (has_products_in_int8(p)) return start(attention_int8_kernel<T, kHead>, Share<kHead>::kQueries, p, stream);
      if constexpr (std::is_same_v<T, float>) {
        return start(attention_float_kernel<kHead>, FloatShare<kHead>::kQueries, p, stream);
      } else {
        return start(attention_half_kernel<T, kHead>, Share<kHead>::kQueries, p, stream);
      }
    });
  });
}

}  // namespace trtbert
