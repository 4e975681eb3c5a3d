// Attention with INT8 products: q, k, v and the probabilities are quantised as their calibrated scales say, sums are exact.
//
// The probabilities that were calibrated are those of the whole row, so the keys are gone through twice: for the maximum and the sum
// of each row, then for the probabilities and the context.
#pragma once

#include "common/wmma.cuh"
#include "kernels/attention.cuh"

namespace trtbert {

// Columns in blocks of 16, a row of a block after the other: every fragment is aligned, and so padded that accesses of many blocks, or
// of many rows, spread over the banks.
template <int kRows, int kColumns>
struct Int8Matrix {
  struct alignas(32) Block {
    int8_t at[kRows][16];
    int8_t padding[32];
  };
  Block blocks[kColumns / 16];

  __device__ int8_t* at(int row, int column) { return &blocks[column / 16].at[row][column % 16]; }
};

template <typename T>
__device__ Vector<int8_t, kChunk> to_int8(Vector<T, kChunk> const& chunk, float scale) {
  Vector<int8_t, kChunk> result;
#pragma unroll
  for (int i = 0; i < kChunk; ++i) result.at[i] = to_int8(to_float(chunk.at[i]), scale);
  return result;
}

template <int kHead>
struct Int8Shared {
  static constexpr int kScorePitch = kKeys + 4;
  Int8Matrix<Share<kHead>::kQueries, kHead> queries;
  Int8Matrix<kKeys, kHead> keys;
  Int8Matrix<kHead, kKeys> values;  // transposed, as their product reads them: a column of the head is a row
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
  using ValueB = wmma::fragment<wmma::matrix_b, 16, 16, 16, signed char, wmma::col_major>;
  using Sum = wmma::fragment<wmma::accumulator, 16, 16, 16, int>;
  Share<kHead> const share;
  auto& shared = shared_memory<Shared>();
  Tile const tile = find_tile<share.kQueries>(p);
  if (tile.first_query >= tile.length) return;

  load_rows<T, share.kQueries, kHead>(
      p, tile, kQuery, tile.first_query, [&](int row) { return tile.first_query + row < tile.length; },
      [&](int row, int column, auto const& chunk) { to_int8(chunk, p.q_scale).store(shared.queries.at(row, column)); });

  // The products of the queries and one block of keys.
  auto multiply_keys = [&](int first_key, unsigned kept) {
    __syncthreads();  // the keys and the scores of the block before have been read
    load_rows<T, kKeys, kHead>(
        p, tile, kKey, first_key, [&](int row) { return (kept >> row & 1) != 0; },
        [&](int row, int column, auto const& chunk) { to_int8(chunk, p.k_scale).store(shared.keys.at(row, column)); });
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
        load_fragment(a, shared.queries.at(share.first_row, k * 16), 16);
        load_fragment(b, shared.keys.at(column, k * 16), 16);
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
    load_columns<T, kKeys, kHead>(
        p, tile, kValue, first_key, [&](int row) { return (kept >> row & 1) != 0; },
        [&](int row, int column, auto const& chunk) {
          auto const bytes = to_int8(chunk, p.v_scale);
#pragma unroll
          for (int i = 0; i < kChunk; ++i) *shared.values.at(column + i, row) = bytes.at[i];
        });
#pragma unroll
    for (int pass = 0; pass < share.kPasses; ++pass) {
      Vector<float, share.kKeysPerLane> chunk;
      scores_of(share.row(pass), first_key, kept, chunk.at);
      float const base = softmax_base(maximum[pass]);
      float const inverse = total[pass] > 0.0f ? 1.0f / total[pass] : 0.0f;
#pragma unroll
      for (float& value : chunk.at) value = exp2f(value - base) * inverse;
      to_int8(chunk, p.probability_scale).store(shared.probabilities.at(share.row(pass), share.first_key));
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kKeys / 16; ++k) {
      A a;
      load_fragment(a, shared.probabilities.at(share.first_row, k * 16), 16);
#pragma unroll
      for (int f = 0; f < share.kFragments; ++f) {
        ValueB b;
        load_fragment(b, shared.values.at((share.part * share.kFragments + f) * 16, k * 16), 16);
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
    auto const sums = Vector<int32_t, kChunk>::load(&shared.scores[row][share.part * 16 + column]);
    float values[kChunk];
#pragma unroll
    for (int i = 0; i < kChunk; ++i) values[i] = static_cast<float>(sums.at[i]) * scale;
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
