// LayerNorm(x (+ bias) + skip) over the last axis.
#pragma once

#include <cuda_runtime_api.h>

#include "common/dtype.h"

namespace trtbert {

struct SkipLayerNormParams {
  void const* x;      // [rows, width]
  void const* skip;   // [rows, width]
  void const* gamma;  // [width]
  void const* beta;   // [width]
  void const* bias;   // [width], or null for none
  void* y;            // [rows, width]
  int64_t rows;
  int64_t width;
  float epsilon;
  float x_scale;     // not 0: x is INT8, of this scale; so is skip then
  float skip_scale;  // not 0 where x_scale is not 0
  float y_scale;     // not 0: y is INT8, of this scale
};

// Tensors that are not INT8 are of type dtype. Sums and variance (in two passes) are in float. Device pointers, any alignment of
// the element type. Returns cudaErrorInvalidValue for parameters that do not fit together.
cudaError_t fused_skip_layer_norm(DType dtype, SkipLayerNormParams const& params, cudaStream_t stream);

}  // namespace trtbert
