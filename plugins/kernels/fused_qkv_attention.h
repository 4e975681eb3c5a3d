// Softmax(scale * Q K^T + bias, over the keys that the mask keeps) V, in one kernel; scores are never written to global memory.
#pragma once

#include <cuda_runtime_api.h>

#include "common/dtype.h"

namespace trtbert {

struct QkvAttentionParams {
  void const* qkv;            // [batch, length, num_heads + 2 * num_kv_heads, head_size]: q, k, v; packed: [tokens, ...]
  int32_t const* mask;        // [batch, length], 0 for a key that nobody attends to; null where packed
  int32_t const* cu_seqlens;  // [batch + 1], packed: sequence b is the tokens cu_seqlens[b] .. cu_seqlens[b + 1] - 1; null where padded
  void const* bias;           // [bias_batch, num_heads, length, length] of the type of qkv, or null for none; null where packed
  void* y;                    // [batch, length, num_heads, head_size]; packed: [tokens, num_heads, head_size]
  int64_t batch;
  int64_t length;      // padded: of every row
  int64_t tokens;      // packed: of all sequences together
  int64_t bias_batch;  // batch, or 1: the same bias for every row of the batch
  int32_t num_heads;
  int32_t num_kv_heads;  // divides num_heads: heads of queries that follow one another share one of keys and values
  int32_t head_size;     // 8 to 128, in steps of 8
  float scale;
  float q_scale;  // these four: all 0, or all not 0: INT8 products, of symmetric per-tensor scales
  float k_scale;
  float v_scale;
  float probability_scale;
  float y_scale;  // not 0: y is INT8, of this scale
};

// qkv, bias and y (unless INT8) are of type dtype. Softmax and sums are in float. A row that attends to nothing gets zeros.
// Returns cudaErrorInvalidValue for parameters that do not fit together, cudaErrorNotSupported where the GPU is too old:
// BF16 needs sm_80, INT8 products sm_75.
cudaError_t fused_qkv_attention(DType dtype, QkvAttentionParams const& params, cudaStream_t stream);

}  // namespace trtbert
