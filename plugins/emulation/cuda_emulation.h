// The CUDA C++ that our kernels use, for g++: `g++ -x c++ -include cuda_emulation.h -I plugins/emulation kernel.cu`.
//
// cuda_fp16.h and cuda_bf16.h are the toolkit's own: their host paths convert and round as the GPU does.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cmath>
#include <cstdint>

#include "machine.h"

#define TRTBERT_EMULATED 1

#undef __device__
#define __device__
#undef __global__
#define __global__
#undef __forceinline__
#define __forceinline__ inline __attribute__((always_inline))
#undef __launch_bounds__
#define __launch_bounds__(...)

#define threadIdx (emulation::thread().index)
#define blockIdx (emulation::block_index())
#define blockDim (emulation::block_size())
#define gridDim (emulation::grid_size())

#define EMULATION_TEXT_OF(x) #x
#define EMULATION_TEXT(x) EMULATION_TEXT_OF(x)
#define __syncthreads() emulation::barrier(__FILE__ ":" EMULATION_TEXT(__LINE__))

namespace emulation {

template <typename T>
struct Exchange {
  T value;
  unsigned source;
  T result;
};

template <typename T>
EMULATION_FOR_ALL_LANES void exchange_all(unsigned mask, void* const* deposits) {
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    auto* own = static_cast<Exchange<T>*>(deposits[lane]);
    if ((mask >> own->source & 1) == 0) fail("a shuffle reads a lane outside its mask");
    own->result = static_cast<Exchange<T>*>(deposits[own->source])->value;
  }
}

template <typename T>
T exchange(unsigned mask, char const* operation, T value, unsigned source) {
  Exchange<T> own{value, source, value};
  collective(mask, operation, &own, exchange_all<T>);
  return own.result;
}

struct Vote {
  bool is_set;
  unsigned result;
};

EMULATION_FOR_ALL_LANES inline void vote_all(unsigned mask, void* const* deposits) {
  unsigned result = 0;
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    if ((mask >> lane & 1) != 0 && static_cast<Vote*>(deposits[lane])->is_set) result |= 1u << lane;
  }
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    if ((mask >> lane & 1) != 0) static_cast<Vote*>(deposits[lane])->result = result;
  }
}

}  // namespace emulation

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lanes) {
  return emulation::exchange(mask, "__shfl_xor_sync", value, emulation::thread().lane() ^ static_cast<unsigned>(lanes));
}

inline unsigned __ballot_sync(unsigned mask, int predicate) {
  emulation::Vote own{predicate != 0, 0};
  emulation::collective(mask, "__ballot_sync", &own, emulation::vote_all);
  return own.result;
}

inline void __syncwarp(unsigned mask = 0xFFFFFFFFu) { emulation::warp_barrier(mask); }
