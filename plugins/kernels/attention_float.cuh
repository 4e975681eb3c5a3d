// Attention in FP32, with no tensor cores: a few lanes share a query, its head in their registers.
//
// The context is a sum of as many terms as there are keys: it is compensated (Kahan), or it would lose a digit of the result.
#pragma once

#include "kernels/attention.cuh"

namespace trtbert {

constexpr int kKeysPerSum = 4;  // that are summed before they are added to the context

template <int kHead>
struct FloatShare {
  static constexpr int kLanes = kHead > 32 && kHead % 32 == 0 ? 8 : 4;  // that share a query
  static constexpr int kQueries = kThreads / kLanes;                    // of a block
  static constexpr int kSteps = kHead / (4 * kLanes);                   // a lane has four columns in each
  static constexpr int kKeysPerLane = kKeys / kLanes;                   // whose probability it makes
  static_assert(kSteps * 4 * kLanes == kHead, "columns of the head would be left out");
};

template <int kHead>
struct FloatShared {
  alignas(16) float tile[kKeys][kHead];  // of the keys, then of the values; every row is read by all queries at once
  alignas(16) float scores[FloatShare<kHead>::kQueries][kKeys + 4];
};

// total += term, the rounding error of the sum so far being `error`.
__device__ inline void add_compensated(float& total, float& error, float term) {
  float const corrected = term - error;
  float const sum = total + corrected;
  error = (sum - total) - corrected;
  total = sum;
}

template <int kHead>
__global__ void __launch_bounds__(kThreads, kMinBlocks) attention_float_kernel(QkvAttentionParams p) {
  using Share = FloatShare<kHead>;
  constexpr int kLanes = Share::kLanes, kSteps = Share::kSteps, kKeysPerLane = Share::kKeysPerLane;
  auto& shared = shared_memory<FloatShared<kHead>>();
  Tile const tile = find_tile<Share::kQueries>(p);
  if (tile.first_query >= tile.length) return;
  int const row = static_cast<int>(threadIdx.x) / kLanes, lane = static_cast<int>(threadIdx.x) % kLanes;
  int const query_index = tile.first_query + row;

  auto load_tile = [&](Part part, int first_key, unsigned kept) {
    load_rows<float, kKeys, kHead>(
        p, tile, part, first_key, [&](int r) { return (kept >> r & 1) != 0; },
        [&](int r, int column, auto const& chunk) { chunk.store(&shared.tile[r][column]); });
  };
  auto columns = [&](int key, int step) { return Vector<float, 4>::load(&shared.tile[key][(step * kLanes + lane) * 4]); };

  Vector<float, 4> query[kSteps], context[kSteps], errors[kSteps];
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    int const column = (step * kLanes + lane) * 4;
    float const* source = head_of<float>(p, kQuery, tile.first_token + query_index) + column;
    bool const is_inside = query_index < tile.length && column < p.head_size;
    query[step] = is_inside ? Vector<float, 4>::load(source) : Vector<float, 4>::zero();
    context[step] = errors[step] = Vector<float, 4>::zero();
  }

  Softmax softmax;
  for (int first_key = 0; first_key < tile.length; first_key += kKeys) {
    unsigned const kept = kept_keys(p, tile, first_key);
    if (kept == 0) continue;
    __syncthreads();  // the values of the block before have been read
    load_tile(kKey, first_key, kept);
    __syncthreads();

    // Scores: each lane has the sum over its columns, then all have the whole.
#pragma unroll 1
    for (int key = 0; key < kKeys; ++key) {
      float sum = 0.0f;
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        auto const k = columns(key, step);
#pragma unroll
        for (int i = 0; i < 4; ++i) sum += query[step].at[i] * k.at[i];
      }
      sum = lanes_sum<kLanes>(sum);
      if (lane == key / kKeysPerLane) shared.scores[row][key] = sum;
    }
    __syncthreads();
    load_tile(kValue, first_key, kept);

    // Softmax so far.
    float scores[kKeysPerLane];
    lane_scores<float, kKeysPerLane>(p, tile, &shared.scores[row][lane * kKeysPerLane], p.scale, kept, row, lane * kKeysPerLane, first_key,
                                     scores);
    float const factor = softmax.raise(lanes_max<kLanes>(largest<kKeysPerLane>(scores)));
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < kKeysPerLane; ++i) {
      float const probability = exp2f(scores[i] - softmax.base());
      shared.scores[row][lane * kKeysPerLane + i] = probability;
      sum += probability;
    }
    softmax.total += lanes_sum<kLanes>(sum);
    __syncthreads();

    // Context.
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        context[step].at[i] *= factor;
        errors[step].at[i] *= factor;
      }
    }
#pragma unroll 1
    for (int key = 0; key < kKeys; key += kKeysPerSum) {
      auto const probabilities = Vector<float, kKeysPerSum>::load(&shared.scores[row][key]);
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        auto sum = Vector<float, 4>::zero();
#pragma unroll
        for (int k = 0; k < kKeysPerSum; ++k) {
          auto const v = columns(key + k, step);
#pragma unroll
          for (int i = 0; i < 4; ++i) sum.at[i] += probabilities.at[k] * v.at[i];
        }
#pragma unroll
        for (int i = 0; i < 4; ++i) add_compensated(context[step].at[i], errors[step].at[i], sum.at[i]);
      }
    }
  }

  // Outputs.
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
#pragma unroll
    for (float& value : context[step].at) value *= softmax.inverse();
    store_context<float, 4>(p, tile, query_index, (step * kLanes + lane) * 4, context[step].at);
  }
}

}  // namespace trtbert
