// CUDA's runtime library, whichever version is installed: the functions used here have not changed since CUDA 11.
#include "engine/cuda.h"

#include <algorithm>

#include "trtbert/error.h"

namespace trtbert {

// Calls a function of the library by its name and its type in the header.
#define TRTBERT_CUDA(name, ...) check(library_.function<decltype(name)>(#name)(__VA_ARGS__))

Device::Device() : library_({"libcudart.so", "libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0"}, "CUDA's runtime library") {
  int count = 0;
  using Count = cudaError_t(int*);
  if (library_.function<Count>("cudaGetDeviceCount")(&count) != cudaSuccess || count == 0) {
    throw Error(
        ErrorKind::kMissingRuntime,
        "This engine needs an NVIDIA GPU and its driver, and none is usable here. Run it on a machine with one, or compile a package "
        "with --target cpu.");
  }
  TRTBERT_CUDA(cudaGetDevice, &index_);
  TRTBERT_CUDA(cudaStreamCreate, &stream_);
}

Device::~Device() {
  using Free = cudaError_t(void*);
  using Destroy = cudaError_t(cudaStream_t);
  for (auto const& [name, buffer] : buffers_) {
    library_.function<Free>("cudaFree")(buffer.address);
  }
  library_.function<Destroy>("cudaStreamDestroy")(stream_);
}

void Device::use() const { TRTBERT_CUDA(cudaSetDevice, index_); }

std::string Device::compute_capability() const {
  int major = 0, minor = 0;
  TRTBERT_CUDA(cudaDeviceGetAttribute, &major, cudaDevAttrComputeCapabilityMajor, index_);
  TRTBERT_CUDA(cudaDeviceGetAttribute, &minor, cudaDevAttrComputeCapabilityMinor, index_);
  return "sm" + std::to_string(major) + std::to_string(minor);
}

void* Device::buffer(std::string const& name, size_t size) {
  Buffer& buffer = buffers_[name];
  if (buffer.address == nullptr || buffer.size < size) {
    using Free = cudaError_t(void*);
    using Allocate = cudaError_t(void**, size_t);
    check(library_.function<Free>("cudaFree")(buffer.address));  // It waits for the device, so nothing still reads it.
    buffer = {};
    check(library_.function<Allocate>("cudaMalloc")(&buffer.address, std::max(size, size_t{1})));
    buffer.size = size;
  }
  return buffer.address;
}

void Device::upload(void* to, void const* from, size_t size) const {
  TRTBERT_CUDA(cudaMemcpyAsync, to, from, size, cudaMemcpyHostToDevice, stream_);
}

void Device::download(void* to, void const* from, size_t size) const {
  TRTBERT_CUDA(cudaMemcpyAsync, to, from, size, cudaMemcpyDeviceToHost, stream_);
}

void Device::wait() const { TRTBERT_CUDA(cudaStreamSynchronize, stream_); }

void Device::check(cudaError_t status) const {
  if (status != cudaSuccess) {
    using Name = char const*(cudaError_t);
    throw std::runtime_error(std::string("CUDA: ") + library_.function<Name>("cudaGetErrorString")(status));
  }
}

}  // namespace trtbert
