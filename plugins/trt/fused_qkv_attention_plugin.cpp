// FusedQkvAttention for TensorRT.
#include "trt/ops.h"
#include "trt/qkv_attention_attributes.h"

namespace trtbert {
namespace {

Op make(Attributes const& attributes) {
  QkvAttentionParams const fixed = qkv_attention_params(attributes);

  Signature signature;
  signature.inputs = {{"qkv", Kind::kFloat, "BSW"}, {"mask", Kind::kIndex, "BS"}, {"bias", Kind::kFloat, "bNSS"}};
  signature.num_required = 2;
  signature.output = {"y", kind_for(fixed.y_scale), "BSC"};
  signature.fixed = qkv_attention_extents(fixed);

  auto const launch = [fixed](Call const& call) {
    QkvAttentionParams params = fixed;
    params.qkv = call.input(0);
    params.mask = call.input<int32_t>(1);
    params.bias = call.input(2);
    params.y = call.output;
    params.batch = call.extents['B'];
    params.length = call.extents['S'];
    params.bias_batch = params.bias == nullptr ? 0 : call.extents['b'];
    return launch_qkv_attention(call.dtype, params, call.stream);
  };
  return {signature, launch};
}

}  // namespace

OpKind const& fused_qkv_attention_kind() {
  static OpKind const kind{"FusedQkvAttention", qkv_attention_fields(), make};
  return kind;
}

}  // namespace trtbert
