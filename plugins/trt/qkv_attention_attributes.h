// What FusedQkvAttention and FusedPackedQkvAttention have in common: their attributes.
#pragma once

#include "kernels/fused_qkv_attention.h"
#include "trt/plugin.h"

namespace trtbert {

std::vector<Field> qkv_attention_fields();

// With the members that attributes set; throws Refusal.
QkvAttentionParams qkv_attention_params(Attributes const& attributes);

// W, the three projections, C, the context, and N, the heads of queries.
std::vector<Fixed> qkv_attention_extents(QkvAttentionParams const& params);

// Says what the GPU is too old for.
cudaError_t launch_qkv_attention(DType dtype, QkvAttentionParams const& params, cudaStream_t stream);

}  // namespace trtbert
