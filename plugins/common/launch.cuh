// How a kernel starts and gets its shared memory, on a GPU and under plugins/emulation.
#pragma once

#include <cuda_runtime_api.h>

namespace trtbert {

// T, where it is not to be deduced: arguments become what the kernel takes.
template <typename T>
struct Same {
  using Type = T;
};

#if defined(TRTBERT_EMULATED)

template <typename... Params>
cudaError_t launch(void (*kernel)(Params...), dim3 grid, int threads, cudaStream_t, typename Same<Params>::Type... args) {
  emulation::launch(grid, dim3(threads), [=] { kernel(args...); });
  return cudaSuccess;
}

template <typename T>
T& shared_memory() {
  static char const key = 0;
  return *static_cast<T*>(emulation::shared(&key, sizeof(T), alignof(T)));
}

#else

template <typename... Params>
cudaError_t launch(void (*kernel)(Params...), dim3 grid, int threads, cudaStream_t stream, typename Same<Params>::Type... args) {
  void* pointers[] = {&args...};
  return cudaLaunchKernel(reinterpret_cast<void const*>(kernel), grid, dim3(threads), pointers, 0, stream);
}

// The T that the threads of a block share; two calls for one T give the same.
template <typename T>
__device__ T& shared_memory() {
  __shared__ T memory;
  return memory;
}

#endif

constexpr unsigned kMaxGridYZ = 65535;  // blocks along y, and along z
constexpr int kWarpSize = 32;
constexpr unsigned kWholeWarp = 0xFFFFFFFFu;

template <typename T>
__host__ __device__ constexpr T ceil_div(T a, T b) {
  return (a + b - 1) / b;
}

}  // namespace trtbert
