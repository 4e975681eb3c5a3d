// The launchers behind a C interface, for callers that load the library: tests, benchmarks, Python's ctypes.
#pragma once

#include "kernels/fused_bias_gelu.h"
#include "kernels/fused_embed_layer_norm.h"
#include "kernels/fused_qkv_attention.h"
#include "kernels/fused_skip_layer_norm.h"

#if !defined(TRTBERT_API)
#define TRTBERT_API __attribute__((visibility("default")))
#endif

extern "C" {

// The version of trtbert that the library is of, such as "1.0.0"; a package records it.
TRTBERT_API char const* trtbert_plugins_version();

// The targets of trtbert that it is compiled for, such as "sm75,sm80"; "" of a build for the CPU.
TRTBERT_API char const* trtbert_plugins_targets();

// Each starts its kernel on `stream` and gives the cudaError_t of the launch. `dtype` is a trtbert::DType.
TRTBERT_API int32_t trtbert_fused_bias_gelu(int32_t dtype, trtbert::BiasGeluParams const* params, cudaStream_t stream);
TRTBERT_API int32_t trtbert_fused_embed_layer_norm(int32_t dtype, trtbert::EmbedLayerNormParams const* params, cudaStream_t stream);
TRTBERT_API int32_t trtbert_fused_qkv_attention(int32_t dtype, trtbert::QkvAttentionParams const* params, cudaStream_t stream);
TRTBERT_API int32_t trtbert_fused_skip_layer_norm(int32_t dtype, trtbert::SkipLayerNormParams const* params, cudaStream_t stream);

}  // extern "C"
