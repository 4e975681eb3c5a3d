// FusedSkipLayerNorm for TensorRT.
#include "kernels/fused_skip_layer_norm.h"
#include "trt/log.h"
#include "trt/ops.h"

namespace trtbert {
namespace {

using nvinfer1::PluginFieldType;

Op make(Attributes const& attributes) {
  SkipLayerNormParams fixed{};
  fixed.epsilon = attributes.non_negative("epsilon");
  fixed.x_scale = attributes.non_negative("x_scale");
  fixed.skip_scale = attributes.non_negative("skip_scale");
  fixed.y_scale = attributes.non_negative("y_scale");
  if ((fixed.x_scale != 0.0F) != (fixed.skip_scale != 0.0F)) {
    throw Refusal("only one of the attributes x_scale and skip_scale is set; allowed are both (x and skip are INT8) or neither");
  }

  Signature signature;
  signature.inputs = {{"x", kind_for(fixed.x_scale), "*D"},
                      {"skip", kind_for(fixed.skip_scale), "*D"},
                      {"gamma", Kind::kFloat, "D"},
                      {"beta", Kind::kFloat, "D"},
                      {"bias", Kind::kFloat, "D"}};
  signature.num_required = 4;
  signature.output = {"y", kind_for(fixed.y_scale), "*D"};

  auto const launch = [fixed](Call const& call) {
    SkipLayerNormParams params = fixed;
    params.x = call.input(0);
    params.skip = call.input(1);
    params.gamma = call.input(2);
    params.beta = call.input(3);
    params.bias = call.input(4);
    params.y = call.output;
    params.rows = call.extents['*'];
    params.width = call.extents['D'];
    return fused_skip_layer_norm(call.dtype, params, call.stream);
  };
  return {signature, launch};
}

}  // namespace

OpKind const& fused_skip_layer_norm_kind() {
  static OpKind const kind{"FusedSkipLayerNorm",
                           {{"epsilon", PluginFieldType::kFLOAT32},
                            {"x_scale", PluginFieldType::kFLOAT32, true},
                            {"skip_scale", PluginFieldType::kFLOAT32, true},
                            {"y_scale", PluginFieldType::kFLOAT32, true}},
                           make};
  return kind;
}

}  // namespace trtbert
