// Attention in FP16 or BF16: products on tensor cores, sums and softmax in float.
//
// The context stays in accumulators, whose layout CUDA does not tell: which row an element is of is read from a matrix of row numbers.
#pragma once

#include "common/wmma.cuh"
#include "kernels/attention.cuh"

namespace trtbert {

template <typename T, int kHead>
struct HalfShared {
  static constexpr int kPitch = kHead + 8;  // elements of a row: 16 bytes more, against bank conflicts
  static constexpr int kScorePitch = kKeys + 4;
  static constexpr int kProbabilityPitch = kScorePitch * sizeof(float) / sizeof(T);

  alignas(32) T queries[Share<kHead>::kQueries][kPitch];
  alignas(32) T tile[kKeys][kPitch];  // of the keys, then of the values
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
      [&](int row, int column, auto const& chunk) { chunk.store(&shared.queries[row][column]); });
  for (int i = static_cast<int>(threadIdx.x); i < share.kQueries * 16; i += kThreads)
    shared.scores[i / 16][i % 16] = static_cast<float>(i / 16);
  __syncthreads();
  Sum row_numbers;
  wmma::load_matrix_sync(row_numbers, shared.scores[share.first_row], Shared::kScorePitch, wmma::mem_row_major);
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

  float maximum[share.kPasses], total[share.kPasses];  // of the rows whose softmax this lane has a part in
#pragma unroll
  for (int pass = 0; pass < share.kPasses; ++pass) {
    maximum[pass] = -INFINITY;
    total[pass] = 0.0f;
  }
  for (int first_key = 0; first_key < tile.length; first_key += kKeys) {
    unsigned const kept = kept_keys(p, tile, first_key);
    if (kept == 0) continue;
    auto load_tile = [&](Part part) {
      load_rows<T, kKeys, kHead>(
          p, tile, part, first_key, [&](int row) { return (kept >> row & 1) != 0; },
          [&](int row, int column, auto const& chunk) { chunk.store(&shared.tile[row][column]); });
    };
    __syncthreads();  // the values of the block before have been read
    load_tile(kKey);
    __syncthreads();

    // Scores.
#pragma unroll 1
    for (int f = 0; f < share.kKeyFragments; ++f) {
      int const column = (share.part * share.kKeyFragments + f) * 16;
      Sum sum;
      wmma::fill_fragment(sum, 0.0f);
#pragma unroll 2
      for (int k = 0; k < kHead; k += 16) {
        A a;
        KeyB b;
        load_fragment(a, &shared.queries[share.first_row][k], Shared::kPitch);
        load_fragment(b, &shared.tile[column][k], Shared::kPitch);
        wmma::mma_sync(sum, a, b, sum);
      }
      wmma::store_matrix_sync(&shared.scores[share.first_row][column], sum, Shared::kScorePitch, wmma::mem_row_major);
    }
    __syncthreads();
    load_tile(kValue);

    // Softmax so far; a row is read whole before its probabilities overwrite it.
#pragma unroll
    for (int pass = 0; pass < share.kPasses; ++pass) {
      int const row = share.row(pass);
      float scores[share.kKeysPerLane];
      lane_scores<T, share.kKeysPerLane>(p, tile, &shared.scores[row][share.first_key], p.scale, kept, row, share.first_key, first_key,
                                         scores);
      float const new_maximum = fmaxf(maximum[pass], lanes_max<share.kLanesPerRow>(largest<share.kKeysPerLane>(scores)));
      float const base = softmax_base(new_maximum);
      float const factor = exp2f(maximum[pass] - base);
      __syncwarp();
      float sum = 0.0f;
      Vector<T, share.kKeysPerLane> probabilities;
#pragma unroll
      for (int i = 0; i < share.kKeysPerLane; ++i) {
        probabilities.at[i] = quantized<T>(exp2f(scores[i] - base), 0.0f);
        sum += to_float(probabilities.at[i]);  // as it is multiplied: the weights of a row then sum to 1
      }
      probabilities.store(shared.probabilities(row) + share.first_key);
      maximum[pass] = new_maximum;
      total[pass] = total[pass] * factor + lanes_sum<share.kLanesPerRow>(sum);
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
        load_fragment(b, &shared.tile[k][(share.part * share.kFragments + f) * 16], Shared::kPitch);
        wmma::mma_sync(context[f], a, b, context[f]);
      }
    }
  }

  // Outputs, a fragment at a time through shared memory.
  __syncthreads();
#pragma unroll
  for (int pass = 0; pass < share.kPasses; ++pass) {
    if (share.first_key == 0) shared.factor[share.row(pass)] = total[pass] > 0.0f ? 1.0f / total[pass] : 0.0f;
  }
  __syncthreads();
  rescale_context();
#pragma unroll
  for (int f = 0; f < share.kFragments; ++f) {
    wmma::store_matrix_sync(&shared.scores[share.first_row][share.part * 16], context[f], Shared::kScorePitch, wmma::mem_row_major);
    __syncwarp();
    int const row = share.first_row + share.lane / 2, column = share.lane % 2 * kChunk;
    auto const values = Vector<float, kChunk>::load(&shared.scores[row][share.part * 16 + column]);
    store_context<T, kChunk>(p, tile, tile.first_query + row, (share.part * share.kFragments + f) * 16 + column, values.at);
    __syncwarp();
  }
}

template <typename T, int kHead>
__global__ void __launch_bounds__(kThreads, kMinBlocks) attention_half_kernel(QkvAttentionParams p) {
  if constexpr (kHasProducts<T>) attend_half<T, kHead>(p);
}

}  // namespace trtbert
