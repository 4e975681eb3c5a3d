// What the launchers refuse, and what gives them nothing to do: none of it may touch memory.
#include <cuda_runtime_api.h>

#include "capi.h"
#include "cases.h"

extern "C" void emulation_set_compute_capability(int32_t capability);

namespace {

constexpr int32_t kHalf = static_cast<int32_t>(trtbert::DType::kFloat16), kBFloat16 = static_cast<int32_t>(trtbert::DType::kBFloat16);
constexpr int32_t kNoType = 3;
constexpr int64_t kHuge = int64_t{1} << 62;

void refuse_gelu() {
  trtbert::BiasGeluParams params{};
  expect_error("gelu: no width", trtbert_fused_bias_gelu(kHalf, &params, nullptr), cudaErrorInvalidValue);
  params.width = 8;
  expect_error("gelu: no rows", trtbert_fused_bias_gelu(kHalf, &params, nullptr), cudaSuccess);
  params.rows = 1;
  expect_error("gelu: no such type", trtbert_fused_bias_gelu(kNoType, &params, nullptr), cudaErrorInvalidValue);
  params.width = kHuge;
  expect_error("gelu: too wide", trtbert_fused_bias_gelu(kHalf, &params, nullptr), cudaErrorInvalidValue);
}

void refuse_skip() {
  trtbert::SkipLayerNormParams params{};
  expect_error("skip: no width", trtbert_fused_skip_layer_norm(kHalf, &params, nullptr), cudaErrorInvalidValue);
  params.width = 8;
  expect_error("skip: no rows", trtbert_fused_skip_layer_norm(kHalf, &params, nullptr), cudaSuccess);
  params.rows = kHuge;
  expect_error("skip: too many rows", trtbert_fused_skip_layer_norm(kHalf, &params, nullptr), cudaErrorInvalidValue);
}

void refuse_embed() {
  trtbert::EmbedLayerNormParams params{};
  expect_error("embed: no tokens", trtbert_fused_embed_layer_norm(kHalf, &params, nullptr), cudaSuccess);
  params.batch = params.length = 1;
  expect_error("embed: no width", trtbert_fused_embed_layer_norm(kHalf, &params, nullptr), cudaErrorInvalidValue);
}

void refuse_attention() {
  trtbert::QkvAttentionParams params{};
  int32_t const mask = 1;
  expect_error("attention: no tokens", trtbert_fused_qkv_attention(kHalf, &params, nullptr), cudaSuccess);
  params.batch = params.length = 1;
  params.num_heads = 2;
  params.num_kv_heads = 1;
  params.head_size = 12;
  params.mask = &mask;
  expect_error("attention: head of 12", trtbert_fused_qkv_attention(kHalf, &params, nullptr), cudaErrorInvalidValue);
  params.head_size = 16;
  params.num_kv_heads = 0;
  expect_error("attention: no heads of keys and values", trtbert_fused_qkv_attention(kHalf, &params, nullptr), cudaErrorInvalidValue);
  params.num_kv_heads = 1;
  params.batch = params.length = INT32_MAX - 64;
  expect_error("attention: too many tiles", trtbert_fused_qkv_attention(kHalf, &params, nullptr), cudaErrorInvalidValue);
  params.batch = params.length = 1;
  emulation_set_compute_capability(75);
  expect_error("attention: BF16 on Turing", trtbert_fused_qkv_attention(kBFloat16, &params, nullptr), cudaErrorNotSupported);
  emulation_set_compute_capability(70);
  params.q_scale = params.k_scale = params.v_scale = params.probability_scale = 1.0f;
  expect_error("attention: INT8 on Volta", trtbert_fused_qkv_attention(kHalf, &params, nullptr), cudaErrorNotSupported);
  emulation_set_compute_capability(90);
}

}  // namespace

void run_refusals() {
  if (trtbert_plugins_version() == nullptr) expect_error("version", 1, 0);
  refuse_gelu();
  refuse_skip();
  refuse_embed();
  refuse_attention();
}
