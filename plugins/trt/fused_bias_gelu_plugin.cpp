// FusedBiasGelu for TensorRT.
#include "kernels/fused_bias_gelu.h"
#include "trt/log.h"
#include "trt/ops.h"

namespace trtbert {
namespace {

using nvinfer1::PluginFieldType;

bool is_tanh(std::string const& approximate) {
  if (approximate != "none" && approximate != "tanh") {
    throw Refusal("attribute approximate is \"" + approximate + "\"; allowed are \"none\" and \"tanh\"");
  }
  return approximate == "tanh";
}

Op make(Attributes const& attributes) {
  BiasGeluParams fixed{};
  fixed.is_tanh = is_tanh(attributes.text("approximate"));
  fixed.x_scale = attributes.non_negative("x_scale");
  fixed.y_scale = attributes.non_negative("y_scale");

  Signature signature;
  signature.inputs = {{"x", kind_for(fixed.x_scale), "*D"}, {"bias", Kind::kFloat, "D"}};
  signature.num_required = 2;
  signature.output = {"y", kind_for(fixed.y_scale), "*D"};

  auto const launch = [fixed](Call const& call) {
    BiasGeluParams params = fixed;
    params.x = call.input(0);
    params.bias = call.input(1);
    params.y = call.output;
    params.rows = call.extents['*'];
    params.width = call.extents['D'];
    return fused_bias_gelu(call.dtype, params, call.stream);
  };
  return {signature, launch};
}

}  // namespace

OpKind const& fused_bias_gelu_kind() {
  static OpKind const kind{
      "FusedBiasGelu",
      {{"approximate", PluginFieldType::kCHAR}, {"x_scale", PluginFieldType::kFLOAT32, true}, {"y_scale", PluginFieldType::kFLOAT32, true}},
      make};
  return kind;
}

}  // namespace trtbert
