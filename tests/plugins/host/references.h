// What the fused ops compute, in double. trtbert/ops.py says the same in numpy.
#pragma once

#include <vector>

#include "tensors.h"

namespace host {

struct Operand {
  Shape shape;
  Values values;  // the numbers that the tensor stands for, whatever its type
};

Values embed_layer_norm(std::vector<Operand> const& inputs, double epsilon);
Values skip_layer_norm(std::vector<Operand> const& inputs, double epsilon);
Values bias_gelu(std::vector<Operand> const& inputs, bool is_tanh);

struct AttentionAttributes {
  int64_t num_heads;
  int64_t num_kv_heads;
  int64_t head_size;
  double scale;
  double qkv_scales[3];  // of q, k and v in INT8; 0 for none
  double probability_scale;

  int64_t width() const { return (num_heads + 2 * num_kv_heads) * head_size; }  // of qkv
};
Values qkv_attention(std::vector<Operand> const& inputs, AttentionAttributes const& attributes);
Values packed_qkv_attention(std::vector<Operand> const& inputs, AttentionAttributes const& attributes);

}  // namespace host
