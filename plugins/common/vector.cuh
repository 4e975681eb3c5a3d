// N elements that are loaded and stored together, 16 bytes an access where they fill so many, and their conversion to float.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <cstring>

namespace trtbert {

template <int kBytes>
struct WordOf;
template <>
struct WordOf<1> {
  using Type = unsigned char;
};
template <>
struct WordOf<2> {
  using Type = unsigned short;
};
template <>
struct WordOf<4> {
  using Type = unsigned int;
};
template <>
struct WordOf<8> {
  using Type = uint2;
};
template <>
struct WordOf<16> {
  using Type = uint4;
};

template <typename Word>
__device__ void store_word_global(Word* destination, Word word) {
  *destination = word;
}
#if defined(__CUDA_ARCH__)
// In PTX, because nvcc takes such a store to pieces in some kernels.
__device__ inline void store_word_global(uint2* destination, uint2 word) {
  asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(destination)), "r"(word.x), "r"(word.y) : "memory");
}
__device__ inline void store_word_global(uint4* destination, uint4 word) {
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(destination)), "r"(word.x), "r"(word.y),
               "r"(word.z), "r"(word.w)
               : "memory");
}
#endif

template <typename T, int N>
struct Vector {
  static constexpr int kWordBytes = sizeof(T) * N < 16 ? sizeof(T) * N : 16;
  using Word = typename WordOf<kWordBytes>::Type;
  static constexpr int kWords = sizeof(T) * N / kWordBytes;

  T at[N];

  static __device__ Vector zero() {
    Vector vector;
    std::memset(static_cast<void*>(vector.at), 0, sizeof(vector.at));
    return vector;
  }

  static __device__ Vector load(T const* source) {
    Word words[kWords];
#pragma unroll
    for (int i = 0; i < kWords; ++i) words[i] = reinterpret_cast<Word const*>(source)[i];
    Vector vector;
    std::memcpy(static_cast<void*>(vector.at), words, sizeof(words));
    return vector;
  }

  __device__ void store(T* destination) const {
    Word words[kWords];
    std::memcpy(words, at, sizeof(words));
#pragma unroll
    for (int i = 0; i < kWords; ++i) reinterpret_cast<Word*>(destination)[i] = words[i];
  }

  // The same in global memory.
  __device__ void store_global(T* destination) const {
    Word words[kWords];
    std::memcpy(words, at, sizeof(words));
#pragma unroll
    for (int i = 0; i < kWords; ++i) store_word_global(reinterpret_cast<Word*>(destination) + i, words[i]);
  }
};

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(__half x) { return __half2float(x); }
__device__ inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }

// DQ(x): an INT8 element times its scale, any other as it is.
template <typename T>
__device__ float dequantized(T x, float) {
  return to_float(x);
}
template <>
__device__ inline float dequantized(int8_t x, float scale) {
  return static_cast<float>(x) * scale;
}

__device__ inline int8_t to_int8(float x, float scale) { return static_cast<int8_t>(fminf(fmaxf(rintf(x / scale), -128.0f), 127.0f)); }

// Q(x): x as T, an INT8 of `scale`.
template <typename T>
__device__ T quantized(float x, float scale);
template <>
__device__ inline float quantized(float x, float) {
  return x;
}
template <>
__device__ inline __half quantized(float x, float) {
  return __float2half_rn(x);
}
template <>
__device__ inline __nv_bfloat16 quantized(float x, float) {
  return __float2bfloat16_rn(x);
}
template <>
__device__ inline int8_t quantized(float x, float scale) {
  return to_int8(x, scale);
}

// The elements that a kernel moves at once: 16 bytes of its floats.
template <typename T>
constexpr int kFullVector = 16 / sizeof(T);

// Whether 16-byte accesses are allowed at every pointer; null is.
template <typename... Pointers>
bool is_aligned(Pointers... pointers) {
  return ((reinterpret_cast<uintptr_t>(pointers) % 16 == 0) && ...);
}

}  // namespace trtbert
