// The few calls of the CUDA runtime that launchers and plugins make, for a machine that emulates one GPU.
#include <cuda_runtime_api.h>

#include "machine.h"

namespace {

int compute_capability = 90;  // major * 10 + minor

}  // namespace

extern "C" {

void emulation_set_compute_capability(int32_t capability) { compute_capability = capability; }

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  if (attribute == cudaDevAttrComputeCapabilityMajor) {
    *value = compute_capability / 10;
  } else if (attribute == cudaDevAttrComputeCapabilityMinor) {
    *value = compute_capability % 10;
  } else {
    return cudaErrorInvalidValue;
  }
  return cudaSuccess;
}

char const* cudaGetErrorName(cudaError_t error) {
  return error == cudaErrorNotSupported ? "cudaErrorNotSupported" : "cudaErrorInvalidValue";
}

char const* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorNotSupported ? "operation not supported" : "invalid argument";
}

}  // extern "C"
