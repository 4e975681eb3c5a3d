// GELU(x + bias), exact or with tanh.
#pragma once

#include <cuda_runtime_api.h>

#include "common/dtype.h"

namespace trtbert {

struct BiasGeluParams {
  void const* x;     // [rows, width]
  void const* bias;  // [width]
  void* y;           // [rows, width]
  int64_t rows;
  int64_t width;
  bool is_tanh;   // false: 0.5 x erfc(-x / sqrt(2)); true: the tanh approximation
  float x_scale;  // not 0: x is INT8, of this scale
  float y_scale;  // not 0: y is INT8, of this scale
};

// Tensors that are not INT8 are of type dtype. Sum and GELU are in float.
cudaError_t fused_bias_gelu(DType dtype, BiasGeluParams const& params, cudaStream_t stream);

}  // namespace trtbert
