// What the tensor-core kernels share: which part of a tile a warp has, the products of queries and keys, and the way out of the context.
#pragma once

#include "common/wmma.cuh"
#include "kernels/attention.cuh"

namespace trtbert {

constexpr int kScorePitch = kKeys + 4;  // elements of a row of scores: 16 bytes more, against bank conflicts

// How the warps of a block share its tile: kSplit warps have the same 16 queries, and each of them a part of the keys
// of a block, and of the columns of the context, so that the context of a wide head fits the registers.
template <int kHead>
struct Share {
  static constexpr int kSplit = kHead > 64 ? 2 : 1;
  static constexpr int kQueries = 16 * kWarps / kSplit;
  static constexpr int kFragments = kHead / 16 / kSplit;                    // of the context
  static constexpr int kKeyFragments = kKeys / 16 / kSplit;                 // of the scores
  static constexpr int kLanesPerRow = 4;                                    // that make the softmax of a row
  static constexpr int kPasses = 16 / kSplit / (kWarpSize / kLanesPerRow);  // rows whose softmax a lane has a part in
  static constexpr int kKeysPerLane = kKeys / kLanesPerRow;

  int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  int part = warp % kSplit;
  int first_row = warp / kSplit * 16;                  // of the warp's 16 queries, in the tile
  int first_key = lane % kLanesPerRow * kKeysPerLane;  // of a row, for this lane

  __device__ int row(int pass) const { return first_row + part * (16 / kSplit) + pass * (kWarpSize / kLanesPerRow) + lane / kLanesPerRow; }
};

// scores = queries keys^T, for the 16 queries and the part of a block of keys that the warp has.
template <typename A, typename B, typename Sum, int kHead, typename Queries, typename Keys, typename Score>
__device__ void multiply_keys(Share<kHead> const& share, Queries& queries, Keys& keys, Score (*scores)[kScorePitch]) {
#pragma unroll 1
  for (int f = 0; f < share.kKeyFragments; ++f) {
    int const first_key = (share.part * share.kKeyFragments + f) * 16;
    Sum sum;
    nvcuda::wmma::fill_fragment(sum, Score{0});
#pragma unroll 2  // more at once do not fit the registers
    for (int k = 0; k < kHead; k += 16) {
      A a;
      B b;
      load_fragment(a, queries.at(share.first_row, k), Queries::kPitch);
      load_fragment(b, keys.at(first_key, k), Keys::kPitch);
      nvcuda::wmma::mma_sync(sum, a, b, sum);
    }
    nvcuda::wmma::store_matrix_sync(&scores[share.first_row][first_key], sum, kScorePitch, nvcuda::wmma::mem_row_major);
  }
}

// Writes the context times `scale`, a fragment at a time through the scores, which nobody reads any more.
template <typename T, typename Sum, int kHead, typename Score>
__device__ void store_fragments(QkvAttentionParams const& p, Tile const& tile, Share<kHead> const& share, Sum const* context, float scale,
                                Score (*scores)[kScorePitch]) {
  int const row = share.first_row + share.lane / 2, column = share.lane % 2 * kChunk;
#pragma unroll
  for (int f = 0; f < share.kFragments; ++f) {
    nvcuda::wmma::store_matrix_sync(&scores[share.first_row][share.part * 16], context[f], kScorePitch, nvcuda::wmma::mem_row_major);
    __syncwarp();
    auto const sums = Vector<Score, kChunk>::load(&scores[row][share.part * 16 + column]);
    float values[kChunk];
#pragma unroll
    for (int i = 0; i < kChunk; ++i) values[i] = static_cast<float>(sums.at[i]) * scale;
    store_context<T, kChunk>(p, tile, tile.first_query + row, (share.part * share.kFragments + f) * 16 + column, values);
    __syncwarp();
  }
}

}  // namespace trtbert
