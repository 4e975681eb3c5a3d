// Fragments of 16 x 16 x 16 products, from shared memory.
#pragma once

#include <cuda_bf16.h>
#include <mma.h>

namespace trtbert {

// Loads a fragment of either operand, whose rows (columns, where it is column-major) are `pitch` elements apart in shared memory.
template <typename Fragment, typename T>
__device__ void load_fragment(Fragment& fragment, T const* source, int pitch) {
  nvcuda::wmma::load_matrix_sync(fragment, source, static_cast<unsigned>(pitch));
}

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
// nvcc does not see that a BF16 fragment comes from shared memory, and would load it through generic addresses, which is slower.
#define TRTBERT_LOAD_BFLOAT16(use, operand, layout)                                                                 \
  template <>                                                                                                       \
  __device__ inline void load_fragment(                                                                             \
      nvcuda::wmma::fragment<nvcuda::wmma::use, 16, 16, 16, __nv_bfloat16, nvcuda::wmma::layout##_major>& fragment, \
      __nv_bfloat16 const* source, int pitch) {                                                                     \
    auto* words = reinterpret_cast<unsigned*>(fragment.x);                                                          \
    asm volatile("wmma.load." operand ".sync.aligned." #layout ".m16n16k16.shared.bf16 {%0, %1, %2, %3}, [%4], %5;" \
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])                                   \
                 : "r"(static_cast<unsigned>(__cvta_generic_to_shared(source))), "r"(pitch)                         \
                 : "memory");                                                                                       \
  }
TRTBERT_LOAD_BFLOAT16(matrix_a, "a", row)
TRTBERT_LOAD_BFLOAT16(matrix_b, "b", row)
TRTBERT_LOAD_BFLOAT16(matrix_b, "b", col)
#undef TRTBERT_LOAD_BFLOAT16
#endif

}  // namespace trtbert
