// GELU(x + bias), a thread for a few columns of many rows.
#include "kernels/fused_bias_gelu.h"

#include "common/dispatch.cuh"
#include "common/launch.cuh"
#include "common/vector.cuh"

namespace trtbert {
namespace {

constexpr int kThreads = 128;
constexpr int64_t kRowsPerThread = 4;  // the bias is read once for them

// max(x, 0) minus what GELU takes off on both sides, |x| times the weight of the tail: exact where the tail is nothing, and with no
// digits lost where it is all, as in 1 + erf or 1 + tanh near -1.
template <bool kIsTanh>
__device__ float gelu(float x) {
  constexpr float kNoTail = 16.0f;  // from here on it rounds to 0, also for an infinite x
  float const size = fminf(fabsf(x), kNoTail);
  float weight;
  if constexpr (kIsTanh) {
    constexpr float kTwiceRoot = 1.5957691216057308f;  // 2 sqrt(2 / pi); 0.5 (1 - tanh(u)) = 1 / (1 + exp(2 u))
    weight = 1.0f / (1.0f + expf(kTwiceRoot * (size + 0.044715f * size * size * size)));
  } else {
    constexpr float kHalfRoot = 0.70710678118654752f;  // sqrt(1 / 2)
    weight = 0.5f * erfcf(size * kHalfRoot);
  }
  return (x < 0.0f ? 0.0f : x) - size * weight;
}

template <typename T, typename In, typename Out, int V, bool kIsTanh>
__global__ void __launch_bounds__(kThreads)
    bias_gelu_kernel(In const* x, T const* bias, Out* y, int64_t rows, int64_t width, float x_scale, float y_scale) {
  int64_t const column = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * V;
  if (column >= width) return;
  auto const bias_vector = Vector<T, V>::load(bias + column);
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    auto const x_vector = Vector<In, V>::load(x + row * width + column);
    Vector<Out, V> y_vector;
#pragma unroll
    for (int i = 0; i < V; ++i) {
      float const total = dequantized(x_vector.at[i], x_scale) + to_float(bias_vector.at[i]);
      y_vector.at[i] = quantized<Out>(gelu<kIsTanh>(total), y_scale);
    }
    y_vector.store_global(y + row * width + column);
  }
}

template <typename T, typename In, typename Out, int V>
cudaError_t start(BiasGeluParams const& p, cudaStream_t stream) {
  int64_t const blocks = ceil_div<int64_t>(p.width, kThreads * V);
  if (blocks > INT32_MAX) return cudaErrorInvalidValue;
  int64_t const shares = ceil_div(p.rows, kRowsPerThread);
  dim3 const grid(static_cast<unsigned>(blocks), static_cast<unsigned>(shares < kMaxGridYZ ? shares : kMaxGridYZ));
  auto kernel = p.is_tanh ? bias_gelu_kernel<T, In, Out, V, true> : bias_gelu_kernel<T, In, Out, V, false>;
  return launch(kernel, grid, kThreads, stream, static_cast<In const*>(p.x), static_cast<T const*>(p.bias), static_cast<Out*>(p.y), p.rows,
                p.width, p.x_scale, p.y_scale);
}

}  // namespace

cudaError_t fused_bias_gelu(DType dtype, BiasGeluParams const& p, cudaStream_t stream) {
  if (p.rows < 0 || p.width < 1) return cudaErrorInvalidValue;
  if (p.rows == 0) return cudaSuccess;
  return dispatch_float(dtype, [&](auto t) {
    using T = decltype(t);
    return dispatch_int8<T>(p.x_scale, [&](auto in) {
      return dispatch_int8<T>(p.y_scale, [&](auto out) {
        using In = decltype(in);
        using Out = decltype(out);
        constexpr int V = kFullVector<T>;
        bool const is_vectorised = p.width % V == 0 && is_aligned(p.x, p.bias, p.y);
        return is_vectorised ? start<T, In, Out, V>(p, stream) : start<T, In, Out, 1>(p, stream);
      });
    });
  });
}

}  // namespace trtbert
