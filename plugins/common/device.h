// What the current GPU can do.
#pragma once

#include <cuda_runtime_api.h>

namespace trtbert {

// cudaErrorNotSupported where the current GPU is older than sm_`capability`.
inline cudaError_t require_capability(int capability) {
  int device = 0, major = 0, minor = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  if (error != cudaSuccess) return error;
  return major * 10 + minor >= capability ? cudaSuccess : cudaErrorNotSupported;
}

}  // namespace trtbert
