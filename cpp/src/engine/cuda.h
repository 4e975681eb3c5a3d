// What an engine needs of CUDA: one stream, and a buffer for each tensor that grows as needed.
#pragma once

#include <cuda_runtime_api.h>

#include <map>
#include <string>

#include "engine/shared_library.h"

namespace trtbert {

class Device {
 public:
  // Throws Error (kMissingRuntime) without a GPU. It is the one that is current in the thread.
  Device();
  Device(Device const&) = delete;
  Device& operator=(Device const&) = delete;
  ~Device();

  void use() const;
  std::string compute_capability() const;  // such as "sm80"
  cudaStream_t stream() const { return stream_; }

  // At least `size` bytes on the device, kept for the next call.
  void* buffer(std::string const& name, size_t size);
  void upload(void* to, void const* from, size_t size) const;
  void download(void* to, void const* from, size_t size) const;
  void wait() const;

 private:
  struct Buffer {
    void* address = nullptr;
    size_t size = 0;
  };
  void check(cudaError_t status) const;

  SharedLibrary library_;
  int index_ = 0;
  cudaStream_t stream_ = nullptr;
  std::map<std::string, Buffer> buffers_;
};

}  // namespace trtbert
