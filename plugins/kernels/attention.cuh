// What the attention kernels share: which queries a block works on, how it loads rows, and what a lane knows of a row of scores.
//
// A block of kThreads threads takes the queries of one tile, one head and one sequence, and goes through the keys kKeys at a time:
// a key is one bit of a word, so that a ballot tells which are kept, and a block of keys that has none is skipped.
//
// The grid: x is the tile, z the head of keys and values, y the head of queries among those that share it.
#pragma once

#include <cmath>
#include <type_traits>

#include "common/launch.cuh"
#include "common/reduce.cuh"
#include "common/vector.cuh"
#include "kernels/fused_qkv_attention.h"

namespace trtbert {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarpSize;
constexpr int kKeys = 32;
constexpr int kChunk = 8;      // elements of a head that move at once
constexpr int kMinBlocks = 4;  // on a multiprocessor: a quarter of the threads of the largest
constexpr float kLog2E = 1.4426950408889634f;

enum Part : int { kQuery = 0, kKey = 1, kValue = 2 };

// The tile of queries of one block.
struct Tile {
  int batch;
  int64_t first_token;  // of the sequence
  int length;           // of the sequence
  int first_query;      // in the sequence; length or more: the block has nothing to do
};

template <int kQueries>
__device__ Tile padded_tile(QkvAttentionParams const& p) {
  int const tiles = ceil_div(static_cast<int>(p.length), kQueries);
  int const batch = static_cast<int>(blockIdx.x) / tiles;
  return {batch, batch * p.length, static_cast<int>(p.length), static_cast<int>(blockIdx.x) % tiles * kQueries};
}

// The tiles of packed sequences are numbered through: the block looks for the sequence of its own.
template <int kQueries>
__device__ Tile packed_tile(QkvAttentionParams const& p) {
  int64_t tile = blockIdx.x;
  for (int batch = 0; batch < p.batch; ++batch) {
    int64_t const begin = p.cu_seqlens[batch];
    int64_t const end = p.cu_seqlens[batch + 1] < p.tokens ? p.cu_seqlens[batch + 1] : p.tokens;
    int64_t const tiles = begin < 0 || end <= begin ? 0 : ceil_div<int64_t>(end - begin, kQueries);
    if (tile < tiles) return {batch, begin, static_cast<int>(end - begin), static_cast<int>(tile) * kQueries};
    tile -= tiles;
  }
  return {0, 0, 0, 0};
}

template <int kQueries>
__device__ Tile find_tile(QkvAttentionParams const& p) {
  return p.cu_seqlens == nullptr ? padded_tile<kQueries>(p) : packed_tile<kQueries>(p);
}

// Bit k: whether key `first + k` of the sequence is attended to. The same in every warp of the block.
__device__ inline unsigned kept_keys(QkvAttentionParams const& p, Tile const& tile, int first) {
  int const key = first + static_cast<int>(threadIdx.x) % kWarpSize;
  bool const is_kept = key < tile.length && (p.mask == nullptr || p.mask[tile.first_token + key] != 0);
  return __ballot_sync(kWholeWarp, is_kept);
}

// The heads in a token's row of qkv.
__device__ inline int row_heads(QkvAttentionParams const& p) { return p.num_heads + 2 * p.num_kv_heads; }

// The block's head of queries.
__device__ inline unsigned query_head() { return blockIdx.z * gridDim.y + blockIdx.y; }

// The block's head of `part` in the row of a token.
template <typename T>
__device__ T const* head_of(QkvAttentionParams const& p, Part part, int64_t token) {
  unsigned const head = part == kQuery ? query_head() : p.num_heads + (part - 1) * p.num_kv_heads + blockIdx.z;
  return static_cast<T const*>(p.qkv) + (token * row_heads(p) + head) * p.head_size;
}

// Calls store(row, column, chunk) for each chunk of kRows x kColumns; chunks of rows that are not kept, and beyond the head, are 0.
// The chunks of a row are neighbours in a warp, or those of a column (then kIsByColumn).
template <bool kIsByColumn, typename T, int kRows, int kColumns, typename IsKept, typename Store>
__device__ void load_chunks(QkvAttentionParams const& p, Tile const& tile, Part part, int first_row, IsKept&& is_kept, Store&& store) {
  constexpr int kRowChunks = kColumns / kChunk;
  int const stride = row_heads(p) * p.head_size;  // 64 rows of the largest are still an int
  T const* source = head_of<T>(p, part, tile.first_token + first_row);
#pragma unroll 2  // more at once do not fit the registers
  for (int step = 0; step < ceil_div(kRows * kRowChunks, kThreads); ++step) {
    int const chunk = step * kThreads + static_cast<int>(threadIdx.x);
    if (kRows * kRowChunks % kThreads != 0 && chunk >= kRows * kRowChunks) break;
    int const row = kIsByColumn ? chunk % kRows : chunk / kRowChunks;
    int const column = (kIsByColumn ? chunk / kRows : chunk % kRowChunks) * kChunk;
    bool const is_inside = column < p.head_size && is_kept(row);
    store(row, column, is_inside ? Vector<T, kChunk>::load(source + row * stride + column) : Vector<T, kChunk>::zero());
  }
}

template <typename T, int kRows, int kColumns, typename IsKept, typename Store>
__device__ void load_rows(QkvAttentionParams const& p, Tile const& tile, Part part, int first_row, IsKept&& is_kept, Store&& store) {
  load_chunks<false, T, kRows, kColumns>(p, tile, part, first_row, is_kept, store);
}

template <typename T, int kRows, int kColumns, typename IsKept, typename Store>
__device__ void load_columns(QkvAttentionParams const& p, Tile const& tile, Part part, int first_row, IsKept&& is_kept, Store&& store) {
  load_chunks<true, T, kRows, kColumns>(p, tile, part, first_row, is_kept, store);
}

// The part of a row of scores that one lane has, as exponents of 2: log2(e) (raw * scale + bias), -infinity for a key that is not kept.
template <typename T, int kCount, typename Raw>
__device__ void lane_scores(QkvAttentionParams const& p, Tile const& tile, Raw const* raw, float scale, unsigned kept, int row, int key,
                            int first_key, float* scores) {
  unsigned const own = kept >> key;
#pragma unroll
  for (int i = 0; i < kCount; i += 4) {
    auto const four = Vector<Raw, 4>::load(raw + i);
#pragma unroll
    for (int j = 0; j < 4; ++j) scores[i + j] = static_cast<float>(four.at[j]) * (scale * kLog2E);
  }
  int const query = tile.first_query + row;
  if (p.bias != nullptr && query < tile.length) {
    int64_t const batch = p.bias_batch == 1 ? 0 : tile.batch;
    T const* bias = static_cast<T const*>(p.bias) + ((batch * p.num_heads + query_head()) * p.length + query) * p.length + first_key + key;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if ((own >> i & 1) != 0) scores[i] += to_float(bias[i]) * kLog2E;
    }
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i) scores[i] = (own >> i & 1) != 0 ? scores[i] : -INFINITY;
}

template <int kCount>
__device__ float largest(float const* scores) {
  float result = scores[0];
#pragma unroll
  for (int i = 1; i < kCount; ++i) result = fmaxf(result, scores[i]);
  return result;
}

// The softmax of a row, as far as its keys have been gone through.
struct Softmax {
  float maximum = -INFINITY;
  float total = 0.0f;  // of 2^(score - base())

  // What to subtract from scores: their maximum, but never -infinity, which would give NaN.
  __device__ float base() const { return maximum == -INFINITY ? 0.0f : maximum; }

  // Goes on to scores of which `largest` is the largest; gives what sums so far have to be multiplied by.
  __device__ float raise(float largest) {
    float const before = maximum;
    maximum = fmaxf(maximum, largest);
    float const factor = exp2f(before - base());
    total *= factor;
    return factor;
  }

  __device__ float inverse() const { return total > 0.0f ? 1.0f / total : 0.0f; }
};

// Writes kCount `values` to a query's row of the context, as T or as INT8.
template <typename T, int kCount>
__device__ void store_context(QkvAttentionParams const& p, Tile const& tile, int query, int column, float const* values) {
  if (query >= tile.length || column >= p.head_size) return;
  int64_t const offset = ((tile.first_token + query) * p.num_heads + query_head()) * p.head_size + column;
  auto write = [&](auto* y) {
    using Out = std::remove_pointer_t<decltype(y)>;
    Vector<Out, kCount> chunk;
#pragma unroll
    for (int i = 0; i < kCount; ++i) chunk.at[i] = quantized<Out>(values[i], p.y_scale);
    chunk.store_global(y + offset);
  };
  p.y_scale == 0.0f ? write(static_cast<T*>(p.y)) : write(static_cast<int8_t*>(p.y));
}

}  // namespace trtbert
