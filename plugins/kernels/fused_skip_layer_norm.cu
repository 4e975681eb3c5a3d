// LayerNorm(x (+ bias) + skip), a row a warp or a block.
#include "kernels/fused_skip_layer_norm.h"

#include "common/dispatch.cuh"
#include "kernels/layer_norm.cuh"

namespace trtbert {
namespace {

template <typename T, typename In, int V>
struct SkipInput {
  static constexpr int kVector = V;
  In const* x;
  In const* skip;
  T const* bias;  // or null
  int64_t width;
  float x_scale;
  float skip_scale;

  __device__ void load(int64_t row, int64_t column, float* totals) const {
    auto const x_vector = Vector<In, V>::load(x + row * width + column);
    auto const skip_vector = Vector<In, V>::load(skip + row * width + column);
#pragma unroll
    for (int i = 0; i < V; ++i) totals[i] = dequantized(x_vector.at[i], x_scale);
    if (bias != nullptr) {
      auto const bias_vector = Vector<T, V>::load(bias + column);
#pragma unroll
      for (int i = 0; i < V; ++i) totals[i] += to_float(bias_vector.at[i]);
    }
#pragma unroll
    for (int i = 0; i < V; ++i) totals[i] += dequantized(skip_vector.at[i], skip_scale);
  }
};

template <typename T, typename In, typename Out, int V>
cudaError_t start(SkipLayerNormParams const& p, cudaStream_t stream) {
  SkipInput<T, In, V> const input{
      static_cast<In const*>(p.x), static_cast<In const*>(p.skip), static_cast<T const*>(p.bias), p.width, p.x_scale, p.skip_scale};
  LayerNormOutput<T, Out> const output{static_cast<T const*>(p.gamma), static_cast<T const*>(p.beta), static_cast<Out*>(p.y), p.epsilon,
                                       p.y_scale};
  return layer_norm(input, output, p.rows, p.width, stream);
}

}  // namespace

cudaError_t fused_skip_layer_norm(DType dtype, SkipLayerNormParams const& p, cudaStream_t stream) {
  if (p.rows < 0 || p.width < 1 || (p.x_scale == 0.0f) != (p.skip_scale == 0.0f)) return cudaErrorInvalidValue;
  if (p.rows == 0) return cudaSuccess;
  return dispatch_float(dtype, [&](auto t) {
    using T = decltype(t);
    return dispatch_int8<T>(p.x_scale, [&](auto in) {
      return dispatch_int8<T>(p.y_scale, [&](auto out) {
        using In = decltype(in);
        using Out = decltype(out);
        constexpr int V = kFullVector<T>;
        bool const is_vectorised = p.width % V == 0 && is_aligned(p.x, p.skip, p.gamma, p.beta, p.bias, p.y);
        return is_vectorised ? start<T, In, Out, V>(p, stream) : start<T, In, Out, 1>(p, stream);
      });
    });
  });
}

}  // namespace trtbert
