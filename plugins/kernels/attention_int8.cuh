// Attention with INT8 products: q, k, v and the probabilities are quantised as their calibrated scales say, sums are exact.
//
// The probabilities that were calibrated are those of the whole row, so the keys are gone through twice: for the maximum and the sum
// of each row, then for the probabilities and the context.
#pragma once

#include <mma.h>

#include "kernels/attention.cuh"

namespace trtbert {

// Rows of 16 bytes, column block by column block: free of bank conflicts, and every fragment is aligned.
template <int kRows, int kColumns>
struct Int8Matrix {
  alignas(32) int8_t at[kColumns / 16][kRows][16];

  template <typename T>
  __device__ void store(int row, int column, Vector<T, kChunk> const& chunk, float scale) {
    Vector<int8_t, kChunk> quantized_chunk;
#pragma unroll
    for (int i = 0; i < kChunk; ++i) quantized_chunk.at[i] = to_int8(to_float(chunk.at[i]), scale);
    quantized_chunk.store(&at[column / 16][row][column % 16]);
  }
};

template <int kHead>
struct Int8Shared {
  static constexpr int kScorePitch = kKeys + 4;
  Int8Matrix<Share<kHead>::kQueries, kHead> queries;
  Int8Matrix<kKeys, kHead> tile;  // of the keys, then of the values
  Int8Matrix<Share<kHead>::kQueries, kKeys> probabilities;
  alignas(32) int32_t scores[Share<kHead>::kQueries][kScorePitch];
};

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 750
template <typename T, int kHead>
__device__ void attend_int8(QkvAttentionParams const& p) {
  using namespace nvcuda;
  using Shared = Int8Shared<kHead>;
  using A = wmma::fragment<wmma::matrix_a, 16, 16, 16, signed char, wmma::row_major>;
  using KeyB = wmma::fragment<wmma::matrix_b, 16, 16, 16, signed char, wmma::col_major>;
  using ValueB = wmma::fragment<wmma::matrix_b, 16, 16, 16, signed char, wmma::row_major>;
  using Sum = wmma::fragment<wmma::accumulator, 16, 16, 16, int>;
  Share<kHead> const share;
  auto& shared = shared_memory<Shared>();
  Tile const tile = find_tile<share.kQueries>(p);
  if (tile.first_query >= tile.length) return;

  load_rows<T, share.kQueries, kHead>(
      p, tile, kQuery, tile.first_query, [&](int row) { return tile.first_query + row < tile.length; },
      [&](int row, int column, auto const& chunk) { shared.queries.store(row, column, chunk, p.q_scale); });

  auto load_tile = [&](Part part, int first_key, unsigned kept) {
    load_rows<T, kKeys, kHead>(
        p, tile, part, first_key, [&](int row) { return (kept >> row & 1) != 0; },
        [&](int row, int column, auto const& chunk) { shared.tile.store(row, column, chunk, part == kKey ? p.k_scale : p.v_scale); });
  };
  // The products of queries and one block of keys; afterwards the tile may be overwritten.
  auto multiply_keys = [&](int first_key, unsigned kept) {
    __syncthreads();  // the tile and the scores of the block before have been read
    load_tile(kKey, first_key, kept);
    __syncthreads();
#pragma unroll 1
    for (int f = 0; f < share.kKeyFragments; ++f) {
      int const column = (share.part * share.kKeyFragments + f) * 16;
      Sum sum;
      wmma::fill_fragment(sum, 0);
#pragma unroll 2
      for (int k = 0; k < kHead / 16; ++k) {
        A a;
        KeyB b;
        wmma::load_matrix_sync(a, shared.queries.at[k][share.first_row], 16);
        wmma::load_matrix_sync(b, shared.tile.at[k][column], 16);
        wmma::mma_sync(sum, a, b, sum);
      }
      wmma::store_matrix_sync(&shared.scores[share.first_row][column], sum, Shared::kScorePitch, wmma::mem_row_major);
    }
    __syncthreads();
  };
  auto scores_of = [&](int row, int first_key, unsigned kept, float* scores) {
    lane_scores<T, share.kKeysPerLane>(p, tile, &shared.scores[row][share.first_key], p.scale * p.q_scale * p.k_scale, kept, row,
                                       share.first_key, first_key, scores);
  };

  // Maximum and sum of each row.
  float maximum[share.kPasses], total[share.kPasses];
#pragma unroll
  for (int pass = 0; pass < share.kPasses; ++pass) {
    maximum[pass] = -INFINITY;
    total[pass] = 0.0f;
  }
  for (int first_key = 0; first_key < tile.length; first_key += kKeys) {
    unsigned const kept = kept_keys(p, tile, first_key);
    if (kept == 0) continue;
    multiply_keys(first_key, kept);
#pragma unroll
    for (int pass = 0; pass < share.kPasses; ++pass) {
      float scores[share.kKeysPerLane];
      scores_of(share.row(pass), first_key, kept, scores);
      float const new_maximum = fmaxf(maximum[pass], lanes_max<share.kLanesPerRow>(largest<share.kKeysPerLane>(scores)));
      float const base = softmax_base(new_maximum);
      float sum = 0.0f;
#pragma unroll
      for (float const score : scores) sum += exp2f(score - base);
      total[pass] = total[pass] * exp2f(maximum[pass] - base) + lanes_sum<share.kLanesPerRow>(sum);
      maximum[pass] = new_maximum;
    }
  }

  // Probabilities and context.
  Sum context[share.kFragments];
#pragma unroll
  for (Sum& fragment : context) wmma::fill_fragment(fragment, 0);
  for (int first_key = 0; first_key < tile.length; first_key += kKeys) {
    unsigned const kept = kept_keys(p, tile, first_key);
    if (kept == 0) continue;
    multiply_keys(first_key, kept);
    load_tile(kValue, first_key, kept);
#pragma unroll
    for (int pass = 0; pass < share.kPasses; ++pass) {
      Vector<float, share.kKeysPerLane> chunk;
      scores_of(share.row(pass), first_key, kept, chunk.at);
      float const base = softmax_base(maximum[pass]);
      float const inverse = total[pass] > 0.0f ? 1.0f / total[pass] : 0.0f;
#pragma unroll
      for (float& value : chunk.at) value = exp2f(value - base) * inverse;
      shared.probabilities.store(share.row(pass), share.first_key, chunk, p.probability_scale);
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kKeys / 16; ++k) {
      A a;
      wmma::load_matrix_sync(a, shared.probabilities.at[k][share.first_row], 16);
#pragma unroll
      for (int f = 0; f < share.kFragments; ++f) {
        ValueB b;
        wmma::load_matrix_sync(b, shared.tile.at[share.part * share.kFragments + f][k * 16], 16);
        wmma::mma_sync(context[f], a, b, context[f]);
      }
    }
  }

  // Outputs, a fragment at a time through shared memory.
  __syncthreads();
  float const scale = p.probability_scale * p.v_scale;
#pragma unroll
  for (int f = 0; f < share.kFragments; ++f) {
    wmma::store_matrix_sync(&shared.scores[share.first_row][share.part * 16], context[f], Shared::kScorePitch, wmma::mem_row_major);
    __syncwarp();
    int const row = share.first_row + share.lane / 2, column = share.lane % 2 * kChunk;
    float values[kChunk];
#pragma unroll
    for (int i = 0; i < kChunk; ++i) values[i] = static_cast<float>(shared.scores[row][share.part * 16 + column + i]) * scale;
    store_context<T, kChunk>(p, tile, tile.first_query + row, (share.part * share.kFragments + f) * 16 + column, values);
    __syncwarp();
  }
}

#else
// Such a GPU has no integer tensor cores; the launcher does not come here.
template <typename T, int kHead>
__device__ void attend_int8(QkvAttentionParams const&) {}
#endif

template <typename T, int kHead>
__global__ void __launch_bounds__(kThreads, kMinBlocks) attention_int8_kernel(QkvAttentionParams p) {
  attend_int8<T, kHead>(p);
}

}  // namespace trtbert
