// The nodes that go through the whole life of a plugin: each op with and without its optional inputs and its INT8 tensors.
#include "cases.h"

namespace host {
namespace {

constexpr float kEpsilon = 1e-5F;
// No two of a case are the same: one in place of another shows.
constexpr float kXScale = 0.02F;
constexpr float kSkipScale = 0.015F;
constexpr float kOutputScale = 0.03F;

Fill uniform(double low, double high) {
  return [=](Shape const& shape, Random& random) {
    std::uniform_real_distribution<double> distribution(low, high);
    Values values(num_elements(shape));
    for (double& value : values) value = distribution(random);
    return values;
  };
}

Fill integers(int low, int high) {
  return [=](Shape const& shape, Random& random) {
    std::uniform_int_distribution<int> distribution(low, high);
    Values values(num_elements(shape));
    for (double& value : values) value = distribution(random);
    return values;
  };
}

// Row 0 is kept whole, the last row of three or more not at all, the others have holes.
Values mask(Shape const& shape, Random& random) {
  Values values = integers(0, 1)(shape, random);
  std::fill_n(values.begin(), shape[1], 1.0);
  if (shape[0] > 2) std::fill(values.end() - shape[1], values.end(), 0.0);
  return values;
}

// The starts of the sequences of the two runs below; one of them is empty.
Values starts(Shape const& shape, Random& /*random*/) { return shape[0] == 4 ? Values{0, 3, 3, 7} : Values{0, 17, 20}; }

Input activation(std::string name, std::vector<Shape> shapes) { return {std::move(name), Kind::kFloat, std::move(shapes), uniform(-2, 2)}; }

Input int8_activation(std::string name, std::vector<Shape> shapes, float scale) {
  return {std::move(name), Kind::kInt8, std::move(shapes), integers(-128, 127), false, scale};
}

Input weight(std::string name, Shape const& shape) { return {std::move(name), Kind::kFloat, {shape, shape}, uniform(0.5, 1.5), true}; }

Input int8_weight(std::string name, Shape const& shape, float scale) {
  return {std::move(name), Kind::kInt8, {shape, shape}, integers(-127, 127), true, scale};
}

Input index(std::string name, std::vector<Shape> shapes, Fill fill) {
  return {std::move(name), Kind::kIndex, std::move(shapes), std::move(fill)};
}

Case embed_layer_norm_case(std::string label, bool has_token_types, bool is_int8, int64_t position_batch) {
  constexpr int64_t kWidth = 24;
  auto const table = [&](char const* name, int64_t rows, float scale) {
    return is_int8 ? int8_weight(name, {rows, kWidth}, scale) : weight(name, {rows, kWidth});
  };
  Case c{"FusedEmbedLayerNorm", std::move(label), {{"epsilon", kEpsilon}}, {}, {{2, 5, kWidth}, {3, 9, kWidth}}, {}};
  c.inputs = {index("input_ids", {{2, 5}, {3, 9}}, integers(0, 29)),
              index("position_ids", {{position_batch == 1 ? 1 : 2, 5}, {position_batch == 1 ? 1 : 3, 9}}, integers(0, 9)),
              table("word", 30, 0.01F),
              table("position", 10, 0.02F),
              weight("gamma", {kWidth}),
              weight("beta", {kWidth})};
  if (has_token_types) {
    c.inputs.push_back(index("token_type_ids", {{2, 5}, {3, 9}}, integers(0, 1)));
    c.inputs.push_back(table("token_type", 2, 0.03F));
  }
  if (is_int8) {
    c.attributes.insert(c.attributes.end(), {{"word_scale", 0.01F}, {"position_scale", 0.02F}, {"y_scale", kOutputScale}});
    if (has_token_types) c.attributes.push_back({"token_type_scale", 0.03F});
    c.y_scale = kOutputScale;
  }
  c.reference = [](auto const& inputs) { return embed_layer_norm(inputs, kEpsilon); };
  return c;
}

bool has_int8_products(AttentionAttributes const& a) { return a.probability_scale != 0.0; }

std::vector<Attribute> attention_attributes(AttentionAttributes const& a) {
  std::vector<Attribute> attributes{{"num_heads", static_cast<int32_t>(a.num_heads)},
                                    {"head_size", static_cast<int32_t>(a.head_size)},
                                    {"scale", static_cast<float>(a.scale)}};
  if (a.num_kv_heads != a.num_heads) attributes.push_back({"num_kv_heads", static_cast<int32_t>(a.num_kv_heads)});
  if (has_int8_products(a)) {
    constexpr char const* kNames[] = {"q_scale", "k_scale", "v_scale"};
    for (int part = 0; part < 3; ++part) attributes.push_back({kNames[part], static_cast<float>(a.qkv_scales[part])});
    attributes.push_back({"probability_scale", static_cast<float>(a.probability_scale)});
  }
  return attributes;
}

void make_output_int8(Case& c) {
  c.attributes.push_back({"y_scale", kOutputScale});
  c.y_scale = kOutputScale;
}

Case qkv_attention_case(std::string label, AttentionAttributes const& a, int64_t bias_batch) {
  int64_t const width = a.num_heads * a.head_size;
  Case c{"FusedQkvAttention", std::move(label), attention_attributes(a), {}, {{2, 5, width}, {3, 19, width}}, {}};
  c.inputs = {activation("qkv", {{2, 5, a.width()}, {3, 19, a.width()}}), index("mask", {{2, 5}, {3, 19}}, mask)};
  if (bias_batch != 0) {
    c.inputs.push_back(activation("bias", {{bias_batch == 1 ? 1 : 2, a.num_heads, 5, 5}, {bias_batch == 1 ? 1 : 3, a.num_heads, 19, 19}}));
  }
  c.has_int8_products = has_int8_products(a);
  c.reference = [a](auto const& inputs) { return qkv_attention(inputs, a); };
  return c;
}

Case packed_qkv_attention_case(std::string label, AttentionAttributes const& a) {
  int64_t const width = a.num_heads * a.head_size;
  Case c{"FusedPackedQkvAttention", std::move(label), attention_attributes(a), {}, {{7, width}, {20, width}}, {}};
  c.inputs = {activation("qkv", {{7, a.width()}, {20, a.width()}}), index("cu_seqlens", {{4}, {3}}, starts)};
  c.has_int8_products = has_int8_products(a);
  c.reference = [a](auto const& inputs) { return packed_qkv_attention(inputs, a); };
  return c;
}

Case skip_layer_norm_case(std::string label, std::vector<Shape> const& shapes, bool has_bias, bool is_int8) {
  int64_t const width = shapes[0].back();
  Case c{"FusedSkipLayerNorm", std::move(label), {{"epsilon", kEpsilon}}, {}, shapes, {}};
  c.inputs = {is_int8 ? int8_activation("x", shapes, kXScale) : activation("x", shapes),
              is_int8 ? int8_activation("skip", shapes, kSkipScale) : activation("skip", shapes)};
  for (char const* name : {"gamma", "beta"}) c.inputs.push_back(weight(name, {width}));
  if (has_bias) c.inputs.push_back(weight("bias", {width}));
  if (is_int8) c.attributes.insert(c.attributes.end(), {{"x_scale", kXScale}, {"skip_scale", kSkipScale}});
  c.reference = [](auto const& inputs) { return skip_layer_norm(inputs, kEpsilon); };
  return c;
}

Case bias_gelu_case(std::string label, std::string const& approximate, bool is_int8) {
  std::vector<Shape> const shapes{{2, 5, 33}, {3, 9, 33}};
  Case c{"FusedBiasGelu", std::move(label), {{"approximate", approximate}}, {}, shapes, {}};
  c.inputs = {is_int8 ? int8_activation("x", shapes, kXScale) : activation("x", shapes), weight("bias", {33})};
  if (is_int8) c.attributes.push_back({"x_scale", kXScale});
  c.reference = [is_tanh = approximate == "tanh"](auto const& inputs) { return bias_gelu(inputs, is_tanh); };
  return c;
}

Case with_int8_output(Case c) {
  make_output_int8(c);
  return c;
}

}  // namespace

std::vector<Case> all_cases() {
  AttentionAttributes const floats{2, 2, 16, 0.25, {}, 0.0};
  AttentionAttributes const odd_heads{3, 3, 24, 0.2, {}, 0.0};
  AttentionAttributes const int8{2, 2, 16, 0.25, {2.0 / 127, 1.5 / 127, 1.8 / 127}, 1.0 / 127};
  AttentionAttributes const one_kv_head{3, 1, 24, 0.2, {}, 0.0};
  AttentionAttributes const two_kv_heads{4, 2, 16, 0.25, {}, 0.0};
  AttentionAttributes const int8_of_two_kv_heads{4, 2, 16, 0.25, {2.0 / 127, 1.5 / 127, 1.8 / 127}, 1.0 / 127};
  std::vector<Shape> const rank_3{{2, 5, 32}, {3, 9, 32}};
  return {
      embed_layer_norm_case("no token types", false, false, 2),
      embed_layer_norm_case("token types, one row of positions", true, false, 1),
      embed_layer_norm_case("INT8 tables, INT8 output", true, true, 2),
      embed_layer_norm_case("INT8 tables, no token types", false, true, 1),
      qkv_attention_case("no bias", floats, 0),
      qkv_attention_case("a bias for all rows", odd_heads, 1),
      qkv_attention_case("a bias for each row", floats, 2),
      with_int8_output(qkv_attention_case("INT8 output", floats, 0)),
      qkv_attention_case("INT8 products", int8, 1),
      qkv_attention_case("one head of keys and values, a bias", one_kv_head, 1),
      qkv_attention_case("two heads of keys and values, INT8 products", int8_of_two_kv_heads, 0),
      packed_qkv_attention_case("floats", odd_heads),
      packed_qkv_attention_case("two heads of keys and values", two_kv_heads),
      with_int8_output(packed_qkv_attention_case("INT8 products, INT8 output", int8)),
      skip_layer_norm_case("no bias", rank_3, false, false),
      skip_layer_norm_case("bias, rank 1", {{33}, {33}}, true, false),
      skip_layer_norm_case("bias, rank 2", {{4, 33}, {0, 33}}, true, false),
      skip_layer_norm_case("INT8 inputs", rank_3, true, true),
      with_int8_output(skip_layer_norm_case("INT8 output", rank_3, false, false)),
      bias_gelu_case("erf", "none", false),
      bias_gelu_case("tanh", "tanh", false),
      with_int8_output(bias_gelu_case("INT8 input and output", "none", true)),
  };
}

}  // namespace host
