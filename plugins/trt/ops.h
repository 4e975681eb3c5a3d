// The fused ops that have a plugin.
#pragma once

#include "trt/plugin.h"

namespace trtbert {

OpKind const& fused_embed_layer_norm_kind();
OpKind const& fused_qkv_attention_kind();
OpKind const& fused_packed_qkv_attention_kind();
OpKind const& fused_skip_layer_norm_kind();
OpKind const& fused_bias_gelu_kind();

}  // namespace trtbert
