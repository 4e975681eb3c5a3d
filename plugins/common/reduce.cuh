// Sums over the threads that share a row.
#pragma once

#include "common/launch.cuh"

namespace trtbert {

// The sum over lanes whose index differs in the bits of kLanes - 1, in each of them.
template <int kLanes>
__device__ float lanes_sum(float x) {
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(kWholeWarp, x, offset);
  return x;
}

template <int kLanes>
__device__ float lanes_max(float x) {
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(kWholeWarp, x, offset));
  return x;
}

template <int kWarps>
struct WarpSums {
  float of[kWarps];
};

// The sum over a warp (kThreads 32), or over the block that kThreads make, in each thread.
template <int kThreads>
__device__ float row_sum(float x) {
  x = lanes_sum<kWarpSize>(x);
  if constexpr (kThreads > kWarpSize) {
    constexpr int kWarps = kThreads / kWarpSize;
    auto& sums = shared_memory<WarpSums<kWarps>>();
    __syncthreads();  // the sums of an earlier call have been read
    if (threadIdx.x % kWarpSize == 0) sums.of[threadIdx.x / kWarpSize] = x;
    __syncthreads();
    x = threadIdx.x % kWarpSize < kWarps ? sums.of[threadIdx.x % kWarpSize] : 0.0f;
    x = lanes_sum<kWarpSize>(x);
  }
  return x;
}

}  // namespace trtbert
