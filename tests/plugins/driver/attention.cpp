// FusedQkvAttention, padded and packed: every type and every size of head that is compiled, keys over several blocks, masks with holes.
#include "capi.h"
#include "cases.h"

namespace {

constexpr int32_t kHeadSizes[] = {8, 24, 48, 64, 72, 128};

struct Case {
  trtbert::DType dtype;
  bool has_int8_products, has_int8_y, has_bias, is_packed;
  int64_t batch, length;
  int32_t num_heads, num_kv_heads, head_size;

  std::string name() const {
    return std::string("attention ") + (is_packed ? "packed " : "padded ") + name_of(dtype) + (has_int8_products ? " int8" : "") +
           (has_int8_y ? " int8-out" : "") + (has_bias ? " bias " : " ") + std::to_string(batch) + "x" + std::to_string(length) + "x" +
           std::to_string(num_heads) + (num_kv_heads == num_heads ? "" : "/" + std::to_string(num_kv_heads)) + "x" +
           std::to_string(head_size);
  }
};

// Holes; the second 32 keys are all padding in the first sequence, everything in the last of several.
Tensor holes(Case const& c) {
  Tensor mask(Element::kInt32, c.batch * c.length);
  for (int64_t i = 0; i < c.batch * c.length; ++i) {
    int64_t const batch = i / c.length, key = i % c.length;
    bool const is_padding = (batch == 0 && key / 32 == 1) || (batch > 0 && batch == c.batch - 1) || random_below(4) == 0;
    mask.int32()[i] = is_padding ? 0 : 1;
  }
  return mask;
}

// Sequences of `length`, none, one and a few tokens in turn.
Tensor sequences(Case const& c) {
  int64_t const lengths[] = {c.length, 0, 1, 33};
  Tensor cu_seqlens(Element::kInt32, c.batch + 1);
  for (int64_t i = 0; i < c.batch; ++i) cu_seqlens.int32()[i + 1] = cu_seqlens.int32()[i] + static_cast<int32_t>(lengths[i % 4]);
  return cu_seqlens;
}

void run(Case const& c) {
  if (!is_asked_for(c.name())) return;
  Element const element = element_of(c.dtype);
  Tensor mask = holes(c), cu_seqlens = sequences(c);
  int64_t const tokens = c.is_packed ? cu_seqlens.int32()[c.batch] : c.batch * c.length, width = int64_t{c.num_heads} * c.head_size;
  Tensor qkv(element, tokens * (c.num_heads + 2 * c.num_kv_heads) * c.head_size, 2.0f), bias(element, c.num_heads * c.length * c.length);
  Tensor y(c.has_int8_y ? Element::kInt8 : element, tokens * width);
  trtbert::QkvAttentionParams params{};
  params.qkv = qkv.data();
  params.mask = c.is_packed ? nullptr : mask.int32();
  params.cu_seqlens = c.is_packed ? cu_seqlens.int32() : nullptr;
  params.bias = c.has_bias ? bias.data() : nullptr;
  params.y = y.data();
  params.batch = c.batch;
  params.length = c.length;
  params.tokens = tokens;
  params.bias_batch = 1;
  params.num_heads = c.num_heads;
  params.num_kv_heads = c.num_kv_heads;
  params.head_size = c.head_size;
  params.scale = 0.3f;
  if (c.has_int8_products) {
    params.q_scale = params.k_scale = params.v_scale = 0.015f;
    params.probability_scale = 1.0f / 127.0f;
  }
  params.y_scale = c.has_int8_y ? 0.015f : 0.0f;
  report(c.name(), trtbert_fused_qkv_attention(static_cast<int32_t>(c.dtype), &params, nullptr), y);
}

}  // namespace

void run_attention_cases() {
  for (trtbert::DType const dtype : kTypes) {
    for (bool const is_int8 : {false, true}) {
      for (int32_t const head_size : kHeadSizes) {
        run({dtype, is_int8, false, true, false, 1, 70, 1, 1, head_size});
        run({dtype, is_int8, true, false, true, 4, 40, 1, 1, head_size});
      }
      run({dtype, is_int8, false, false, false, 2, 33, 3, 3, 32});
      run({dtype, is_int8, false, true, false, 2, 33, 4, 2, 24});
      run({dtype, is_int8, true, true, false, 1, 1, 2, 2, 96});
    }
  }
}
