// FusedPackedQkvAttention for TensorRT: sequences of several lengths one after another, with no padding.
#include "trt/ops.h"
#include "trt/qkv_attention_attributes.h"

namespace trtbert {
namespace {

Op make(Attributes const& attributes) {
  QkvAttentionParams const fixed = qkv_attention_params(attributes);

  Signature signature;
  signature.inputs = {{"qkv", Kind::kFloat, "TW"}, {"cu_seqlens", Kind::kIndex, "B+"}};
  signature.num_required = 2;
  signature.output = {"y", kind_for(fixed.y_scale), "TC"};
  signature.fixed = qkv_attention_extents(fixed);

  auto const launch = [fixed](Call const& call) {
    QkvAttentionParams params = fixed;
    params.qkv = call.input(0);
    params.cu_seqlens = call.input<int32_t>(1);
    params.y = call.output;
    params.batch = call.extents['B'];
    params.tokens = call.extents['T'];
    return launch_qkv_attention(call.dtype, params, call.stream);
  };
  return {signature, launch};
}

}  // namespace

OpKind const& fused_packed_qkv_attention_kind() {
  static OpKind const kind{"FusedPackedQkvAttention", qkv_attention_fields(), make};
  return kind;
}

}  // namespace trtbert
