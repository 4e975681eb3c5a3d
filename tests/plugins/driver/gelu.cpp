// FusedBiasGelu: every type, both forms, vectors and single elements, several blocks and several rows a thread.
#include "capi.h"
#include "cases.h"

namespace {

struct Case {
  trtbert::DType dtype;
  bool has_int8_x, has_int8_y, is_tanh, is_unaligned;
  int64_t rows, width;

  std::string name() const {
    return "gelu " + name_of(dtype) + (has_int8_x ? " int8-in" : "") + (has_int8_y ? " int8-out" : "") + (is_tanh ? " tanh" : "") +
           (is_unaligned ? " unaligned " : " ") + std::to_string(rows) + "x" + std::to_string(width);
  }
};

void run(Case const& c) {
  if (!is_asked_for(c.name())) return;
  Element const element = element_of(c.dtype);
  Tensor x(c.has_int8_x ? Element::kInt8 : element, c.rows * c.width, 4.0f, c.is_unaligned), bias(element, c.width);
  Tensor y(c.has_int8_y ? Element::kInt8 : element, c.rows * c.width);
  trtbert::BiasGeluParams const params{
      x.data(), bias.data(), y.data(), c.rows, c.width, c.is_tanh, c.has_int8_x ? 0.03f : 0.0f, c.has_int8_y ? 0.02f : 0.0f};
  report(c.name(), trtbert_fused_bias_gelu(static_cast<int32_t>(c.dtype), &params, nullptr), y);
}

}  // namespace

void run_gelu_cases() {
  for (trtbert::DType const dtype : kTypes) {
    for (int flags = 0; flags < 8; ++flags) {
      bool const int8_x = (flags & 1) != 0, int8_y = (flags & 2) != 0, is_tanh = (flags & 4) != 0;
      run({dtype, int8_x, int8_y, is_tanh, false, 1, 1});
      run({dtype, int8_x, int8_y, is_tanh, false, 6, 33});
      run({dtype, int8_x, int8_y, is_tanh, false, 9, 1032});
      run({dtype, int8_x, int8_y, is_tanh, true, 2, 128});
    }
  }
}
