// How a kernel starts and gets its shared memory, on a GPU and under plugins/emulation.
#pragma once

#include <cuda_runtime_api.h>

namespace trtbert {

#if defined(TRTBERT_EMULATED)

template <typename... Params, typename... Args>
cudaError_t launch(void (*kernel)(Params...), dim3 grid, int threads, cudaStream_t, Args... args) {
  emulation::launch(grid, dim3(threads), [=] { kernel(args...); });
  return cudaGetLastError();
}

template <typename T>
T& shared_memory() {
  static char const key = 0;
  return *static_cast<T*>(emulation::shared(&key, sizeof(T), alignof(T)));
}

#else

template <typename... Params, typename... Args>
cudaError_t launch(void (*kernel)(Params...), dim3 grid, int threads, cudaStream_t stream, Args... args) {
  kernel<<<grid, threads, 0, stream>>>(args...);
  return cudaGetLastError();
}

// The T that the threads of a block share; two calls for one T give the same.
template <typename T>
__device__ T& shared_memory() {
  __shared__ T memory;
  return memory;
}

#endif

constexpr unsigned kMaxGridY = 65535;
constexpr int kWarpSize = 32;
constexpr unsigned kWholeWarp = 0xFFFFFFFFu;

template <typename T>
__host__ __device__ constexpr T ceil_div(T a, T b) {
  return (a + b - 1) / b;
}

}  // namespace trtbert
