// What TensorRT looks up in a plugin library: the list of creators, and where to leave its logger.
#include "trt/log.h"
#include "trt/ops.h"

#define TRTBERT_EXPORT __attribute__((visibility("default")))

extern "C" TRTBERT_EXPORT void setLoggerFinder(nvinfer1::ILoggerFinder* finder) { trtbert::set_logger_finder(finder); }

extern "C" TRTBERT_EXPORT nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& num_creators) {
  static trtbert::Creator embed_layer_norm(trtbert::fused_embed_layer_norm_kind());
  static trtbert::Creator qkv_attention(trtbert::fused_qkv_attention_kind());
  static trtbert::Creator packed_qkv_attention(trtbert::fused_packed_qkv_attention_kind());
  static trtbert::Creator skip_layer_norm(trtbert::fused_skip_layer_norm_kind());
  static trtbert::Creator bias_gelu(trtbert::fused_bias_gelu_kind());
  static nvinfer1::IPluginCreatorInterface* const creators[] = {&embed_layer_norm, &qkv_attention, &packed_qkv_attention, &skip_layer_norm,
                                                                &bias_gelu};
  num_creators = static_cast<int32_t>(std::size(creators));
  return creators;
}
