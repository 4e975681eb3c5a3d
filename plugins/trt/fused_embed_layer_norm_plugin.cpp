// FusedEmbedLayerNorm for TensorRT.
#include "kernels/fused_embed_layer_norm.h"
#include "trt/log.h"
#include "trt/ops.h"

namespace trtbert {
namespace {

using nvinfer1::PluginFieldType;

void check_scales(EmbedLayerNormParams const& params) {
  if ((params.word_scale != 0.0F) != (params.position_scale != 0.0F)) {
    throw Refusal("only one of the attributes word_scale and position_scale is set; allowed are both (INT8 tables) or neither");
  }
  if (params.token_type_scale != 0.0F && params.word_scale == 0.0F) {
    throw Refusal("attribute token_type_scale is set without word_scale; allowed are all tables in INT8, or none");
  }
}

Signature signature_for(EmbedLayerNormParams const& params) {
  Signature signature;
  signature.inputs = {{"input_ids", Kind::kIndex, "BS"},
                      {"position_ids", Kind::kIndex, "bS"},
                      {"word", kind_for(params.word_scale), "VD"},
                      {"position", kind_for(params.position_scale), "PD"},
                      {"gamma", Kind::kFloat, "D"},
                      {"beta", Kind::kFloat, "D"},
                      {"token_type_ids", Kind::kIndex, "BS"},
                      {"token_type", kind_for(params.word_scale), "TD"}};
  // Whether there are INT8 token types is known by their scale.
  if (params.word_scale == 0.0F) {
    signature.num_required = 6;
  } else {
    signature.num_required = params.token_type_scale != 0.0F ? 8 : 6;
    signature.inputs.resize(signature.num_required);
  }
  signature.output = {"y", kind_for(params.y_scale), "BSD"};
  return signature;
}

Op make(Attributes const& attributes) {
  EmbedLayerNormParams fixed{};
  fixed.epsilon = attributes.non_negative("epsilon");
  fixed.word_scale = attributes.non_negative("word_scale");
  fixed.position_scale = attributes.non_negative("position_scale");
  fixed.token_type_scale = attributes.non_negative("token_type_scale");
  fixed.y_scale = attributes.non_negative("y_scale");
  check_scales(fixed);

  auto const launch = [fixed](Call const& call) {
    EmbedLayerNormParams params = fixed;
    params.input_ids = call.input<int32_t>(0);
    params.position_ids = call.input<int32_t>(1);
    params.word = call.input(2);
    params.position = call.input(3);
    params.gamma = call.input(4);
    params.beta = call.input(5);
    params.token_type_ids = call.input<int32_t>(6);
    params.token_type = call.input(7);
    params.y = call.output;
    params.batch = call.extents['B'];
    params.position_batch = call.extents['b'];
    params.length = call.extents['S'];
    params.width = call.extents['D'];
    params.word_rows = call.extents['V'];
    params.position_rows = call.extents['P'];
    params.token_type_rows = params.token_type == nullptr ? 0 : call.extents['T'];
    return fused_embed_layer_norm(call.dtype, params, call.stream);
  };
  return {signature_for(fixed), launch};
}

}  // namespace

OpKind const& fused_embed_layer_norm_kind() {
  static OpKind const kind{"FusedEmbedLayerNorm",
                           {{"epsilon", PluginFieldType::kFLOAT32},
                            {"word_scale", PluginFieldType::kFLOAT32, true},
                            {"position_scale", PluginFieldType::kFLOAT32, true},
                            {"token_type_scale", PluginFieldType::kFLOAT32, true},
                            {"y_scale", PluginFieldType::kFLOAT32, true}},
                           make};
  return kind;
}

}  // namespace trtbert
