// LayerNorm(word[input_ids] + position[position_ids] (+ token_type[token_type_ids])) over the last axis.
#pragma once

#include <cuda_runtime_api.h>

#include "common/dtype.h"

namespace trtbert {

struct EmbedLayerNormParams {
  int32_t const* input_ids;       // [batch, length]
  int32_t const* position_ids;    // [position_batch, length]
  int32_t const* token_type_ids;  // [batch, length], or null for none
  void const* word;               // [word_rows, width]
  void const* position;           // [position_rows, width]
  void const* token_type;         // [token_type_rows, width], or null for none
  void const* gamma;              // [width]
  void const* beta;               // [width]
  void* y;                        // [batch, length, width]
  int64_t batch;
  int64_t position_batch;  // batch, or 1: the same positions for every row of the batch
  int64_t length;
  int64_t width;
  int64_t word_rows;
  int64_t position_rows;
  int64_t token_type_rows;
  float epsilon;
  float word_scale;        // not 0: every table is INT8, each of its own scale
  float position_scale;    // not 0 where word_scale is not 0
  float token_type_scale;  // not 0 where word_scale is not 0 and there is a token_type table
  float y_scale;           // not 0: y is INT8, of this scale
};

// Tensors that are not INT8 are of type dtype. An id below 0 counts from the end of its table, as in ONNX; one outside the table
// makes its row NaN (-128 in INT8): nothing outside a table is read.
cudaError_t fused_embed_layer_norm(DType dtype, EmbedLayerNormParams const& params, cudaStream_t stream);

}  // namespace trtbert
