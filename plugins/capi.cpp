// C entry points of the launchers.
#include "capi.h"

extern "C" {

char const* trtbert_plugins_version() { return TRTBERT_VERSION; }

char const* trtbert_plugins_targets() { return TRTBERT_TARGETS; }

int32_t trtbert_fused_bias_gelu(int32_t dtype, trtbert::BiasGeluParams const* params, cudaStream_t stream) {
  return trtbert::fused_bias_gelu(static_cast<trtbert::DType>(dtype), *params, stream);
}

int32_t trtbert_fused_embed_layer_norm(int32_t dtype, trtbert::EmbedLayerNormParams const* params, cudaStream_t stream) {
  return trtbert::fused_embed_layer_norm(static_cast<trtbert::DType>(dtype), *params, stream);
}

int32_t trtbert_fused_qkv_attention(int32_t dtype, trtbert::QkvAttentionParams const* params, cudaStream_t stream) {
  return trtbert::fused_qkv_attention(static_cast<trtbert::DType>(dtype), *params, stream);
}

int32_t trtbert_fused_skip_layer_norm(int32_t dtype, trtbert::SkipLayerNormParams const* params, cudaStream_t stream) {
  return trtbert::fused_skip_layer_norm(static_cast<trtbert::DType>(dtype), *params, stream);
}

}  // extern "C"
