// LayerNorm(word[input_ids] + position[position_ids] (+ token_type[token_type_ids])), a row a warp or a block.
#include "kernels/fused_embed_layer_norm.h"

#include "common/dispatch.cuh"
#include "kernels/layer_norm.cuh"

namespace trtbert {
namespace {

template <typename In>
struct Table {
  In const* rows;  // [num_rows, width]; null for none
  int32_t const* ids;
  int64_t num_rows;
  float scale;
};

template <typename In, int V>
struct EmbedInput {
  static constexpr int kVector = V;
  Table<In> word;
  Table<In> position;
  Table<In> token_type;
  int64_t position_tokens;  // ids of positions: one for each token, or one for each of a sequence
  int64_t width;

  __device__ void add(Table<In> const& table, int64_t token, int64_t column, float* totals) const {
    int64_t const given = table.ids[token];
    int64_t const id = given < 0 ? given + table.num_rows : given;
    bool const is_outside = id < 0 || id >= table.num_rows;
    auto const vector = Vector<In, V>::load(table.rows + (is_outside ? 0 : id) * width + column);
#pragma unroll
    for (int i = 0; i < V; ++i) totals[i] += is_outside ? NAN : dequantized(vector.at[i], table.scale);
  }

  __device__ void load(int64_t token, int64_t column, float* totals) const {
#pragma unroll
    for (int i = 0; i < V; ++i) totals[i] = 0.0f;
    add(word, token, column, totals);
    if (token_type.rows != nullptr) add(token_type, token, column, totals);
    add(position, token % position_tokens, column, totals);
  }
};

template <typename T, typename In, typename Out, int V>
cudaError_t start(EmbedLayerNormParams const& p, cudaStream_t stream) {
  auto table = [](void const* rows, int32_t const* ids, int64_t num_rows, float scale) {
    return Table<In>{static_cast<In const*>(rows), ids, num_rows, scale};
  };
  EmbedInput<In, V> const input{
      table(p.word, p.input_ids, p.word_rows, p.word_scale), table(p.position, p.position_ids, p.position_rows, p.position_scale),
      table(p.token_type, p.token_type_ids, p.token_type_rows, p.token_type_scale), p.position_batch * p.length, p.width};
  LayerNormOutput<T, Out> const output{static_cast<T const*>(p.gamma), static_cast<T const*>(p.beta), static_cast<Out*>(p.y), p.epsilon,
                                       p.y_scale};
  return layer_norm(input, output, p.batch * p.length, p.width, stream);
}

bool is_valid(EmbedLayerNormParams const& p) {
  bool const has_types = p.token_type != nullptr;
  bool const has_sizes = p.batch >= 0 && p.batch <= INT32_MAX && p.length >= 0 && p.length <= INT32_MAX && p.width >= 1 &&
                         p.word_rows >= 1 && p.position_rows >= 1;
  bool const has_scales =
      (p.word_scale == 0.0f) == (p.position_scale == 0.0f) && (!has_types || (p.word_scale == 0.0f) == (p.token_type_scale == 0.0f));
  return has_sizes && has_scales && (p.position_batch == p.batch || p.position_batch == 1) && has_types == (p.token_type_ids != nullptr) &&
         (!has_types || p.token_type_rows >= 1);
}

}  // namespace

cudaError_t fused_embed_layer_norm(DType dtype, EmbedLayerNormParams const& p, cudaStream_t stream) {
  if (p.batch == 0 || p.length == 0) return cudaSuccess;  // its pointers may be null
  if (!is_valid(p)) return cudaErrorInvalidValue;
  return dispatch_float(dtype, [&](auto t) {
    using T = decltype(t);
    return dispatch_int8<T>(p.word_scale, [&](auto in) {
      return dispatch_int8<T>(p.y_scale, [&](auto out) {
        using In = decltype(in);
        using Out = decltype(out);
        constexpr int V = kFullVector<T>;
        bool const is_vectorised = p.width % V == 0 && is_aligned(p.word, p.position, p.token_type, p.gamma, p.beta, p.y);
        return is_vectorised ? start<T, In, Out, V>(p, stream) : start<T, In, Out, 1>(p, stream);
      });
    });
  });
}

}  // namespace trtbert
