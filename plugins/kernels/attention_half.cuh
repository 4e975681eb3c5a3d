// Attention in FP16 or BF16: products on tensor cores, sums and softmax in float.
//
// The context stays in accumulators, whose layout CUDA does not tell: which row an element is of is read from a matrix of row numbers.
#pragma once

#include "kernels/attention_wmma.cuh"

namespace trtbert {

// Rows that are 16 bytes longer than they need to be, against bank conflicts.
template <typename T, int kRows, int kColumns>
struct HalfMatrix {
  static constexpr int kPitch = kColumns + 8;
  alignas(32) T rows[kRows][kPitch];

  __device__ T* at(int row, int column) { return &rows[row][column]; }
};

template <typename T, int kHead>
struct HalfShared {
  static constexpr int kProbabilityPitch = kScorePitch * sizeof(float) / sizeof(T);

  HalfMatrix<T, Share<kHead>::kQueries, kHead> queries;
  HalfMatrix<T, kKeys, kHead> tile;  // of the keys, then of the values
  alignas(32) float scores[Share<kHead>::kQueries][kScorePitch];
  float factor[Share<kHead>::kQueries];

  // The probabilities of a row lie where its scores were.
  __device__ T* probabilities(int row) { return reinterpret_cast<T*>(scores[row]); }
};

// Whether the architecture that is compiled for multiplies T on its tensor cores.
template <typename T>
constexpr bool kHasProducts =
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
    std::is_same_v<T, __half>;
#else
    true;
#endif

template <typename T, int kHead>
__device__ void attend_half(QkvAttentionParams const& p) {
  using namespace nvcuda;
  using Shared = HalfShared<T, kHead>;
  using A = wmma::fragment<wmma::matrix_a, 16, 16, 16, T, wmma::row_major>;
  using KeyB = wmma::fragment<wmma::matrix_b, 16, 16, 16, T, wmma::col_major>;
  using ValueB = wmma::fragment<wmma::matrix_b, 16, 16, 16, T, wmma::row_major>;
  using Sum = wmma::fragment<wmma::accumulator, 16, 16, 16, float>;
  Share<kHead> const share;
  auto& shared = shared_memory<Shared>();
  Tile const tile = find_tile<share.kQueries>(p);
  if (tile.first_query >= tile.length) return;

  // Queries, and which row an element of an accumulator is of.
  load_rows<T, share.kQueries, kHead>(
      p, tile, kQuery, tile.first_query, [&](int row) { return tile.first_query + row < tile.length; },
      [&](int row, int column, auto const& chunk) { chunk.store(shared.queries.at(row, column)); });
  for (int i = static_cast<int>(threadIdx.x); i < share.kQueries * 16; i += kThreads)
    shared.scores[i / 16][i % 16] = static_cast<float>(i / 16);
  __syncthreads();
  Sum row_numbers;
  wmma::load_matrix_sync(row_numbers, shared.scores[share.first_row], kScorePitch, wmma::mem_row_major);
  unsigned rows[Sum::num_elements / 4] = {};  // a byte for each element: registers are short
#pragma unroll
  for (int e = 0; e < Sum::num_elements; ++e) rows[e / 4] |= static_cast<unsigned>(row_numbers.x[e]) << e % 4 * 8;

  Sum context[share.kFragments];
#pragma unroll
  for (Sum& fragment : context) wmma::fill_fragment(fragment, 0.0f);
  auto rescale_context = [&] {
#pragma unroll
    for (Sum& fragment : context) {
#pragma unroll
      for (int e = 0; e < Sum::num_elements; ++e) fragment.x[e] *= shared.factor[rows[e / 4] >> e % 4 * 8 & 0xFF];
    }
  };

  Softmax softmax[share.kPasses];  // of the rows that this lane has a part in
  for (int first_key = 0; first_key < tile.length; first_key += kKeys) {
    unsigned const kept = kept_keys(p, tile, first_key);
    if (kept == 0) continue;
    auto load_tile = [&](Part part) {
      load_rows<T, kKeys, kHead>(
          p, tile, part, first_key, [&](int row) { return (kept >> row & 1) != 0; },
          [&](int row, int column, auto const& chunk) { chunk.store(shared.tile.at(row, column)); });
    };
    __syncthreads();  // the values of the block before have been read
    load_tile(kKey);
    __syncthreads();

    multiply_keys<A, KeyB, Sum>(share, shared.queries, shared.tile, shared.scores);
    __syncthreads();
    load_tile(kValue);

    // Softmax so far; a row is read whole before its probabilities overwrite it.
#pragma unroll
    for (int pass = 0; pass < share.kPasses; ++pass) {
      int const row = share.row(pass);
      float scores[share.kKeysPerLane];
      lane_scores<T, share.kKeysPerLane>(p, tile, &shared.scores[row][share.first_key], p.scale, kept, row, share.first_key, first_key,
                                         scores);
      float const factor = softmax[pass].raise(lanes_max<share.kLanesPerRow>(largest<share.kKeysPerLane>(scores)));
      __syncwarp();
      float sum = 0.0f;
      Vector<T, share.kKeysPerLane> probabilities;
#pragma unroll
      for (int i = 0; i < share.kKeysPerLane; ++i) {
        probabilities.at[i] = quantized<T>(exp2f(scores[i] - softmax[pass].base()), 0.0f);
        sum += to_float(probabilities.at[i]);  // as it is multiplied: the weights of a row then sum to 1
      }
      probabilities.store(shared.probabilities(row) + share.first_key);
      softmax[pass].total += lanes_sum<share.kLanesPerRow>(sum);
      if (share.first_key == 0) shared.factor[row] = factor;
    }
    __syncthreads();

    // Context.
    rescale_context();
#pragma unroll 1
    for (int k = 0; k < kKeys; k += 16) {
      A a;
      load_fragment(a, shared.probabilities(share.first_row) + k, Shared::kProbabilityPitch);
#pragma unroll
      for (int f = 0; f < share.kFragments; ++f) {
        ValueB b;
        load_fragment(b, shared.tile.at(k, (share.part * share.kFragments + f) * 16), shared.tile.kPitch);
        wmma::mma_sync(context[f], a, b, context[f]);
      }
    }
  }

  // Outputs.
  __syncthreads();
#pragma unroll
  for (int pass = 0; pass < share.kPasses; ++pass) {
    if (share.first_key == 0) shared.factor[share.row(pass)] = softmax[pass].inverse();
  }
  __syncthreads();
  rescale_context();
  store_fragments<T>(p, tile, share, context, 1.0f, shared.scores);
}

template <typename T, int kHead>
__global__ void __launch_bounds__(kThreads, kMinBlocks) attention_half_kernel(QkvAttentionParams p) {
  if constexpr (kHasProducts<T>) attend_half<T, kHead>(p);
}

}  // namespace trtbert
