// What the fused ops compute, in double.
#include "references.h"

#include <algorithm>
#include <cmath>

namespace host {
namespace {

Values layer_norm(Values const& x, Values const& gamma, Values const& beta, double epsilon) {
  size_t const width = gamma.size();
  Values y(x.size());
  for (size_t row = 0; row < x.size(); row += width) {
    double mean = 0.0, variance = 0.0;
    for (size_t i = 0; i < width; ++i) mean += x[row + i] / static_cast<double>(width);
    for (size_t i = 0; i < width; ++i) variance += std::pow(x[row + i] - mean, 2) / static_cast<double>(width);
    for (size_t i = 0; i < width; ++i) y[row + i] = (x[row + i] - mean) / std::sqrt(variance + epsilon) * gamma[i] + beta[i];
  }
  return y;
}

double through_int8(double x, double scale) { return scale == 0.0 ? x : std::clamp(std::nearbyint(x / scale), -128.0, 127.0) * scale; }

// The tokens of one row of the batch: [length, num_heads + 2 * num_kv_heads, head_size] from `first` on.
struct Sequence {
  Values const& qkv;
  int64_t first;
  int64_t length;
  AttentionAttributes const& attributes;

  // What a head of queries reads of part 0, q, 1, k, or 2, v.
  double at(int64_t part, int64_t token, int64_t head, int64_t i) const {
    auto const& a = attributes;
    int64_t const of_token = part == 0 ? head : a.num_heads + (part - 1) * a.num_kv_heads + head * a.num_kv_heads / a.num_heads;
    return through_int8(qkv[(first + token) * a.width() + of_token * a.head_size + i], a.qkv_scales[part]);
  }
};

// The probabilities of one query of one head; bias_row and is_kept may be null.
Values probabilities(Sequence const& sequence, int64_t head, int64_t query, double const* bias_row, double const* is_kept) {
  Values weights(sequence.length);
  double largest = -INFINITY, total = 0.0;
  auto const kept = [&](int64_t key) { return is_kept == nullptr || is_kept[key] != 0.0; };
  for (int64_t key = 0; key < sequence.length; ++key) {
    double score = 0.0;
    for (int64_t i = 0; i < sequence.attributes.head_size; ++i) score += sequence.at(0, query, head, i) * sequence.at(1, key, head, i);
    weights[key] = score * sequence.attributes.scale + (bias_row == nullptr ? 0.0 : bias_row[key]);
    if (kept(key)) largest = std::max(largest, weights[key]);
  }
  for (int64_t key = 0; key < sequence.length; ++key) total += weights[key] = kept(key) ? std::exp(weights[key] - largest) : 0.0;
  for (double& weight : weights) weight = total > 0.0 ? through_int8(weight / total, sequence.attributes.probability_scale) : 0.0;
  return weights;
}

// bias: [num_heads, length, length] of this sequence, or null.
void attend(Sequence const& sequence, double const* bias, double const* is_kept, Values& y) {
  int64_t const num_heads = sequence.attributes.num_heads, head_size = sequence.attributes.head_size;
  for (int64_t head = 0; head < num_heads; ++head) {
    for (int64_t query = 0; query < sequence.length; ++query) {
      double const* const bias_row = bias == nullptr ? nullptr : bias + (head * sequence.length + query) * sequence.length;
      Values const weights = probabilities(sequence, head, query, bias_row, is_kept);
      for (int64_t i = 0; i < head_size; ++i) {
        double& out = y[((sequence.first + query) * num_heads + head) * head_size + i];
        for (int64_t key = 0; key < sequence.length; ++key) out += weights[key] * sequence.at(2, key, head, i);
      }
    }
  }
}

}  // namespace

Values embed_layer_norm(std::vector<Operand> const& inputs, double epsilon) {
  Values const &ids = inputs[0].values, &positions = inputs[1].values, &gamma = inputs[4].values;
  size_t const width = gamma.size();
  Values total(ids.size() * width);
  for (size_t token = 0; token < ids.size(); ++token) {
    for (size_t i = 0; i < width; ++i) {
      double& sum = total[token * width + i];
      sum = inputs[2].values[static_cast<size_t>(ids[token]) * width + i];
      sum += inputs[3].values[static_cast<size_t>(positions[token % positions.size()]) * width + i];
      if (inputs.size() == 8) sum += inputs[7].values[static_cast<size_t>(inputs[6].values[token]) * width + i];
    }
  }
  return layer_norm(total, gamma, inputs[5].values, epsilon);
}

Values skip_layer_norm(std::vector<Operand> const& inputs, double epsilon) {
  Values total = inputs[0].values;
  size_t const width = inputs[2].values.size();
  for (size_t i = 0; i < total.size(); ++i) total[i] += inputs[1].values[i] + (inputs.size() == 5 ? inputs[4].values[i % width] : 0.0);
  return layer_norm(total, inputs[2].values, inputs[3].values, epsilon);
}

Values bias_gelu(std::vector<Operand> const& inputs, bool is_tanh) {
  Values y = inputs[0].values;
  for (size_t i = 0; i < y.size(); ++i) {
    double const x = y[i] + inputs[1].values[i % inputs[1].values.size()];
    double const saturated = is_tanh ? std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)) : std::erf(x / std::sqrt(2.0));
    y[i] = 0.5 * x * (1.0 + saturated);
  }
  return y;
}

Values qkv_attention(std::vector<Operand> const& inputs, AttentionAttributes const& attributes) {
  int64_t const batch = inputs[1].shape[0], length = inputs[1].shape[1];
  Values y(inputs[0].values.size() / attributes.width() * attributes.num_heads * attributes.head_size);
  for (int64_t row = 0; row < batch; ++row) {
    double const* bias = nullptr;
    if (inputs.size() == 3) {
      int64_t const bias_row = inputs[2].shape[0] == 1 ? 0 : row;
      bias = inputs[2].values.data() + bias_row * attributes.num_heads * length * length;
    }
    attend({inputs[0].values, row * length, length, attributes}, bias, inputs[1].values.data() + row * length, y);
  }
  return y;
}

Values packed_qkv_attention(std::vector<Operand> const& inputs, AttentionAttributes const& attributes) {
  Values const& starts = inputs[1].values;
  Values y(inputs[0].values.size() / attributes.width() * attributes.num_heads * attributes.head_size);
  for (size_t i = 0; i + 1 < starts.size(); ++i) {
    auto const first = static_cast<int64_t>(starts[i]);
    attend({inputs[0].values, first, static_cast<int64_t>(starts[i + 1]) - first, attributes}, nullptr, nullptr, y);
  }
  return y;
}

}  // namespace host
