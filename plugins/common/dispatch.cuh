// A type of the runtime -> a type of the compiler.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include "common/dtype.h"

namespace trtbert {

// Calls use(T{}), T the C++ type of `dtype`.
template <typename Use>
cudaError_t dispatch_float(DType dtype, Use&& use) {
  switch (dtype) {
    case DType::kFloat32:
      return use(float{});
    case DType::kFloat16:
      return use(__half{});
    case DType::kBFloat16:
      return use(__nv_bfloat16{});
  }
  return cudaErrorInvalidValue;
}

// Calls use(T{}), or use(int8_t{}) for a scale that says INT8.
template <typename T, typename Use>
cudaError_t dispatch_int8(float scale, Use&& use) {
  return scale == 0.0f ? use(T{}) : use(int8_t{});
}

}  // namespace trtbert
