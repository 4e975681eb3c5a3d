// The attributes of the two attention plugins.
#include "trt/qkv_attention_attributes.h"

#include "trt/log.h"

namespace trtbert {
namespace {

constexpr char const* kInt8Scales[] = {"q_scale", "k_scale", "v_scale", "probability_scale"};

void check_heads(QkvAttentionParams const& params) {
  if (params.num_heads < 1 || params.num_heads > 65535) {
    throw Refusal("attribute num_heads is " + std::to_string(params.num_heads) + "; allowed is 1 to 65535");
  }
  if (params.num_kv_heads < 1 || params.num_heads % params.num_kv_heads != 0) {
    throw Refusal("attribute num_kv_heads is " + std::to_string(params.num_kv_heads) +
                  "; allowed is 0 or a divisor of num_heads, which is " + std::to_string(params.num_heads));
  }
  if (params.head_size < 8 || params.head_size > 128 || params.head_size % 8 != 0) {
    throw Refusal("attribute head_size is " + std::to_string(params.head_size) + "; allowed is 8 to 128 in steps of 8");
  }
}

void check_int8_scales(Attributes const& attributes) {
  std::string missing;
  int32_t num_set = 0;
  for (char const* name : kInt8Scales) {
    bool const is_set = attributes.non_negative(name) != 0.0F;
    num_set += is_set ? 1 : 0;
    missing += is_set ? "" : (missing.empty() ? "" : ", ") + std::string(name);
  }
  if (num_set != 0 && !missing.empty()) {
    throw Refusal("attributes are missing: " + missing + "; allowed are all of q_scale, k_scale, v_scale and probability_scale, or none");
  }
}

}  // namespace

std::vector<Field> qkv_attention_fields() {
  using nvinfer1::PluginFieldType;
  std::vector<Field> fields{{"num_heads", PluginFieldType::kINT32},
                            {"head_size", PluginFieldType::kINT32},
                            {"scale", PluginFieldType::kFLOAT32},
                            {"num_kv_heads", PluginFieldType::kINT32, true}};
  for (char const* name : kInt8Scales) {
    fields.push_back({name, PluginFieldType::kFLOAT32, true});
  }
  fields.push_back({"y_scale", PluginFieldType::kFLOAT32, true});
  return fields;
}

QkvAttentionParams qkv_attention_params(Attributes const& attributes) {
  check_int8_scales(attributes);
  QkvAttentionParams params{};
  params.num_heads = attributes.integer("num_heads");
  int32_t const num_kv_heads = attributes.integer("num_kv_heads");
  params.num_kv_heads = num_kv_heads == 0 ? params.num_heads : num_kv_heads;
  params.head_size = attributes.integer("head_size");
  params.scale = attributes.number("scale");
  params.q_scale = attributes.number("q_scale");
  params.k_scale = attributes.number("k_scale");
  params.v_scale = attributes.number("v_scale");
  params.probability_scale = attributes.number("probability_scale");
  params.y_scale = attributes.non_negative("y_scale");
  check_heads(params);
  return params;
}

std::vector<Fixed> qkv_attention_extents(QkvAttentionParams const& params) {
  int64_t const num_heads = params.num_heads, head_size = params.head_size;
  return {{'W', (num_heads + 2 * params.num_kv_heads) * head_size}, {'C', num_heads * head_size}, {'N', num_heads}};
}

cudaError_t launch_qkv_attention(DType dtype, QkvAttentionParams const& params, cudaStream_t stream) {
  cudaError_t const error = fused_qkv_attention(dtype, params, stream);
  if (error == cudaErrorNotSupported) {
    throw Refusal("this GPU is too old; BF16 needs compute capability 8.0, INT8 scales need 7.5");
  }
  return error;
}

}  // namespace trtbert
