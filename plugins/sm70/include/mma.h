// The toolkit's mma.h for clang, with the WMMA loads and stores of 16 x 16 x 16 fragments in shared memory.
//
// clang hands wmma.load and wmma.store generic pointers, for which ptxas emits LD and ST where nvcc gets LDS and STS. So these four
// name the address space. They are right for tiles in shared memory only; the kernels load and store no other fragments, and
// plugins/emulation/mma.h fails where one does.
#pragma once

#if defined(__CUDA_ARCH__)

namespace trtbert::wmma_shared {

__device__ inline unsigned address(void const* tile) { return static_cast<unsigned>(__cvta_generic_to_shared(tile)); }

// An A or B fragment is eight registers, two halves in each; a float accumulator is eight floats.
#define TRTBERT_WMMA_LOAD(INSTRUCTION, REGISTER)                                                                                 \
  asm volatile(INSTRUCTION " {%0, %1, %2, %3, %4, %5, %6, %7}, [%8], %9;"                                                        \
               : REGISTER(d[0]), REGISTER(d[1]), REGISTER(d[2]), REGISTER(d[3]), REGISTER(d[4]), REGISTER(d[5]), REGISTER(d[6]), \
                 REGISTER(d[7])                                                                                                  \
               : "r"(address(tile)), "r"(leading)                                                                                \
               : "memory")
#define TRTBERT_WMMA_STORE(INSTRUCTION)                                                                                          \
  asm volatile(INSTRUCTION " [%0], {%1, %2, %3, %4, %5, %6, %7, %8}, %9;" ::"r"(address(tile)), "f"(s[0]), "f"(s[1]), "f"(s[2]), \
               "f"(s[3]), "f"(s[4]), "f"(s[5]), "f"(s[6]), "f"(s[7]), "r"(leading)                                               \
               : "memory")

__device__ inline void load_a(int* d, int const* tile, unsigned leading, bool is_column_major) {
  if (is_column_major) {
    TRTBERT_WMMA_LOAD("wmma.load.a.sync.aligned.col.m16n16k16.shared.f16", "=r");
  } else {
    TRTBERT_WMMA_LOAD("wmma.load.a.sync.aligned.row.m16n16k16.shared.f16", "=r");
  }
}

__device__ inline void load_b(int* d, int const* tile, unsigned leading, bool is_column_major) {
  if (is_column_major) {
    TRTBERT_WMMA_LOAD("wmma.load.b.sync.aligned.col.m16n16k16.shared.f16", "=r");
  } else {
    TRTBERT_WMMA_LOAD("wmma.load.b.sync.aligned.row.m16n16k16.shared.f16", "=r");
  }
}

__device__ inline void load_c(float* d, float const* tile, unsigned leading, bool is_column_major) {
  if (is_column_major) {
    TRTBERT_WMMA_LOAD("wmma.load.c.sync.aligned.col.m16n16k16.shared.f32", "=f");
  } else {
    TRTBERT_WMMA_LOAD("wmma.load.c.sync.aligned.row.m16n16k16.shared.f32", "=f");
  }
}

__device__ inline void store_d(float* tile, float const* s, unsigned leading, bool is_column_major) {
  if (is_column_major) {
    TRTBERT_WMMA_STORE("wmma.store.d.sync.aligned.col.m16n16k16.shared.f32");
  } else {
    TRTBERT_WMMA_STORE("wmma.store.d.sync.aligned.row.m16n16k16.shared.f32");
  }
}

#undef TRTBERT_WMMA_LOAD
#undef TRTBERT_WMMA_STORE

}  // namespace trtbert::wmma_shared

// The names by which the toolkit's mma.hpp calls clang's own.
#define __hmma_m16n16k16_ld_a trtbert::wmma_shared::load_a
#define __hmma_m16n16k16_ld_b trtbert::wmma_shared::load_b
#define __hmma_m16n16k16_ld_c_f32 trtbert::wmma_shared::load_c
#define __hmma_m16n16k16_st_c_f32 trtbert::wmma_shared::store_d

#endif

#include_next <mma.h>
