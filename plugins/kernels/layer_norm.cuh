// LayerNorm of rows whose elements an Input makes: the sum of some tensors.
//
// An Input has kVector, the elements that it makes at once, and load(row, column, totals). A row stays in registers between its one
// read and its one write; rows of more than kLongRow * kCached elements are read again for each of the three passes.
#pragma once

#include <cmath>
#include <type_traits>

#include "common/launch.cuh"
#include "common/reduce.cuh"
#include "common/vector.cuh"

namespace trtbert {

template <int V>
constexpr int kCached = V == 1 ? 8 : 16;  // elements of a row that a thread keeps in registers, moved V at a time
constexpr int kMediumRow = 64;
constexpr int kLongRow = 256;
constexpr int kShortRowThreads = 128;
constexpr int kHalfOfGpu = 1024;  // threads of a multiprocessor that there must be registers for

template <typename T, typename Out>
struct LayerNormOutput {
  T const* gamma;  // [width]
  T const* beta;   // [width]
  Out* y;          // [rows, width]
  float epsilon;
  float y_scale;
};

template <int kLanes>
constexpr int kLayerNormThreads = kLanes == kWarpSize ? kShortRowThreads : kLanes;

// kLanes threads make one row: a warp, or the whole block.
template <typename Input, typename T, typename Out, int kLanes, bool kIsCached>
__global__ void __launch_bounds__(kLayerNormThreads<kLanes>, kHalfOfGpu / kLayerNormThreads<kLanes>)
    layer_norm_kernel(Input input, LayerNormOutput<T, Out> output, int64_t rows, int64_t width) {
  constexpr int V = Input::kVector;
  constexpr int kRowsPerBlock = kLayerNormThreads<kLanes> / kLanes;
  int64_t const row = int64_t{blockIdx.x} * kRowsPerBlock + threadIdx.x / kLanes;
  if (row >= rows) return;  // a whole warp, which no barrier waits for
  int const lane = threadIdx.x % kLanes;

  float cache[kIsCached ? kCached<V> : V];
  int const steps = kIsCached ? kCached<V> / V : static_cast<int>(ceil_div<int64_t>(width, kLanes * V));
  auto for_each_vector = [&](auto&& use) {
#pragma unroll(kIsCached ? kCached<V> / V : 1)
    for (int step = 0; step < steps; ++step) {
      int64_t const column = (int64_t{step} * kLanes + lane) * V;
      if (column < width) use(column, kIsCached ? cache + step * V : cache);
    }
  };
  auto load = [&](int64_t column, float* totals) { input.load(row, column, totals); };
  if constexpr (kIsCached) for_each_vector(load);
  auto for_each_loaded = [&](auto&& use) {
    for_each_vector([&](int64_t column, float* totals) {
      if constexpr (!kIsCached) load(column, totals);
      use(column, totals);
    });
  };

  // Mean.
  float sum = 0.0f;
  for_each_loaded([&](int64_t, float const* totals) {
#pragma unroll
    for (int i = 0; i < V; ++i) sum += totals[i];
  });
  float const count = static_cast<float>(width);
  float const mean = row_sum<kLanes>(sum) / count;

  // Variance, and what the rounding of the sum took from the mean.
  float rest = 0.0f, squares = 0.0f;
  for_each_loaded([&](int64_t, float const* totals) {
#pragma unroll
    for (int i = 0; i < V; ++i) {
      float const centred = totals[i] - mean;
      rest += centred;
      squares += centred * centred;
    }
  });
  float const shift = row_sum<kLanes>(rest) / count;
  float const variance = fmaxf(row_sum<kLanes>(squares) / count - shift * shift, 0.0f);
  using Real = std::conditional_t<std::is_same_v<T, float>, double, float>;  // four roundings of a float would show in FP32
  Real const centre = static_cast<Real>(mean) + shift;
  Real const factor = 1 / std::sqrt(static_cast<Real>(variance) + output.epsilon);

  // Outputs.
  for_each_loaded([&](int64_t column, float const* totals) {
    auto const gamma = Vector<T, V>::load(output.gamma + column);
    auto const beta = Vector<T, V>::load(output.beta + column);
    Vector<Out, V> y;
#pragma unroll
    for (int i = 0; i < V; ++i) {
      Real const normed = (totals[i] - centre) * factor;
      y.at[i] = quantized<Out>(static_cast<float>(normed * to_float(gamma.at[i]) + to_float(beta.at[i])), output.y_scale);
    }
    y.store_global(output.y + row * width + column);
  });
}

template <typename Input, typename T, typename Out>
cudaError_t layer_norm(Input const& input, LayerNormOutput<T, Out> const& output, int64_t rows, int64_t width, cudaStream_t stream) {
  auto start = [&](auto kernel, int threads, int rows_per_block) {
    int64_t const blocks = ceil_div<int64_t>(rows, rows_per_block);
    if (blocks > INT32_MAX) return cudaErrorInvalidValue;
    return launch(kernel, dim3(static_cast<unsigned>(blocks)), threads, stream, input, output, rows, width);
  };
  constexpr int V = Input::kVector;
  if constexpr (V > 1) {
    if (width <= kWarpSize * kCached<V>) {
      return start(layer_norm_kernel<Input, T, Out, kWarpSize, true>, kShortRowThreads, kShortRowThreads / kWarpSize);
    }
    if (width <= kMediumRow * kCached<V>) return start(layer_norm_kernel<Input, T, Out, kMediumRow, true>, kMediumRow, 1);
  }
  if (width <= kLongRow * kCached<V>) return start(layer_norm_kernel<Input, T, Out, kLongRow, true>, kLongRow, 1);
  return start(layer_norm_kernel<Input, T, Out, kLongRow, false>, kLongRow, 1);
}

}  // namespace trtbert
