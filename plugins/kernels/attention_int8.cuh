// Attention with INT8 products: q, k, v and the probabilities are quantised as their calibrated scales say, sums are exact.
//
// The probabilities that were calibrated are those of the whole row, so the keys are gone through twice: for the maximum and the sum
// of each row, then for the probabilities and the context.
#pragma once

#include "kernels/attention_wmma.cuh"

namespace trtbert {

// Columns in blocks of 16, a row of a block after the other: every fragment is aligned, and so padded that accesses of many blocks, or
// of many rows, spread over the banks.
template <int kRows, int kColumns>
struct Int8Matrix {
  struct alignas(32) Block {
    int8_t at[kRows][16];
    int8_t padding[32];
  };
  static constexpr int kPitch = 16;
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
  using A = wmma::fragment<wmma::matrix_a, 16, 16, 16, signed char, wmma::row_major>;
  using KeyB = wmma::fragment<wmma::matrix_b, 16, 16, 16, signed char, wmma::col_major>;
  using ValueB = wmma::fragment<wmma::matrix_b, 16, 16, 16, signed char, wmma::col_major>;
  using Sum = wmma::fragment<wmma::accumulator, 16, 16, 16, int>;
  Share<kHead> const share;
  auto& shared = shared_memory<Int8Shared<kHead>>();
  Tile const tile = find_tile<share.kQueries>(p);
  if (tile.first_query >= tile.length) return;

  load_rows<T, share.kQueries, kHead>(
      p, tile, kQuery, tile.first_query, [&](int row) { return tile.first_query + row < tile.length; },
      [&](int row, int column, auto const& chunk) { to_int8(chunk, p.q_scale).store(shared.queries.at(row, column)); });

  // The products of the queries and one block of keys.
  auto make_scores = [&](int first_key, unsigned kept) {
    __syncthreads();  // the keys and the scores of the block before have been read
    load_rows<T, kKeys, kHead>(
        p, tile, kKey, first_key, [&](int row) { return (kept >> row & 1) != 0; },
        [&](int row, int column, auto const& chunk) { to_int8(chunk, p.k_scale).store(shared.keys.at(row, column)); });
    __syncthreads();
    multiply_keys<A, KeyB, Sum>(share, shared.queries, shared.keys, shared.scores);
    __syncthreads();
  };
  auto scores_of = [&](int row, int first_key, unsigned kept, float* scores) {
    lane_scores<T, share.kKeysPerLane>(p, tile, &shared.scores[row][share.first_key], p.scale * p.q_scale * p.k_scale, kept, row,
                                       share.first_key, first_key, scores);
  };

  // Maximum and sum of each row.
  Softmax softmax[share.kPasses];
  for (int first_key = 0; first_key < tile.length; first_key += kKeys) {
    unsigned const kept = kept_keys(p, tile, first_key);
    if (kept == 0) continue;
    make_scores(first_key, kept);
#pragma unroll
    for (int pass = 0; pass < share.kPasses; ++pass) {
      float scores[share.kKeysPerLane];
      scores_of(share.row(pass), first_key, kept, scores);
      softmax[pass].raise(lanes_max<share.kLanesPerRow>(largest<share.kKeysPerLane>(scores)));
      float sum = 0.0f;
#pragma unroll
      for (float const score : scores) sum += exp2f(score - softmax[pass].base());
      softmax[pass].total += lanes_sum<share.kLanesPerRow>(sum);
    }
  }

  // Probabilities and context.
  Sum context[share.kFragments];
#pragma unroll
  for (Sum& fragment : context) wmma::fill_fragment(fragment, 0);
  for (int first_key = 0; first_key < tile.length; first_key += kKeys) {
    unsigned const kept = kept_keys(p, tile, first_key);
    if (kept == 0) continue;
    make_scores(first_key, kept);
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
#pragma unroll
      for (float& value : chunk.at) value = exp2f(value - softmax[pass].base()) * softmax[pass].inverse();
      to_int8(chunk, p.probability_scale).store(shared.probabilities.at(share.row(pass), share.first_key));
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kKeys / 16; ++k) {
      A a;
      load_fragment(a, shared.probabilities.at(share.first_row, k * 16), shared.probabilities.kPitch);
#pragma unroll
      for (int f = 0; f < share.kFragments; ++f) {
        ValueB b;
        load_fragment(b, shared.values.at((share.part * share.kFragments + f) * 16, k * 16), shared.values.kPitch);
        wmma::mma_sync(context[f], a, b, context[f]);
      }
    }
  }

  // Outputs.
  __syncthreads();
  store_fragments<T>(p, tile, share, context, p.probability_scale * p.v_scale, shared.scores);
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
