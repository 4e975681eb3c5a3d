// What the inputs and the output of an op have to be: types, and shapes in letters.
//
// One letter is one extent, the same wherever it stands: "BSD". A lower-case letter is that extent or 1: "bS". A letter before '+' is
// that extent plus one: "B+". A '*' stands for any leading axes, the same wherever it stands: "*D".
#pragma once

#include <NvInferRuntime.h>

#include <array>
#include <string>
#include <vector>

#include "common/dtype.h"

namespace trtbert {

enum class Kind {
  kFloat,  // FP32, FP16 or BF16: the same for all such tensors of a node
  kInt8,
  kIndex,  // INT32
};

// A tensor that has a scale is in INT8; a scale of 0 is none.
inline Kind kind_for(float scale) { return scale != 0.0F ? Kind::kInt8 : Kind::kFloat; }

struct Tensor {
  char const* name;
  Kind kind;
  char const* shape;
};

// An extent that the attributes fix.
struct Fixed {
  char letter;
  int64_t extent;
};

struct Signature {
  std::vector<Tensor> inputs;
  int32_t num_required;  // all inputs, or only the first num_required
  Tensor output;
  std::vector<Fixed> fixed = {};
};

// The extents by letter; those of dynamic axes are kUnknown while an engine is built. '*' is the number of rows.
class Extents {
 public:
  static constexpr int64_t kUnknown = -1;

  Extents() { extents_.fill(kUnknown); }
  int64_t operator[](char letter) const { return extents_[static_cast<unsigned char>(letter)]; }
  int64_t& operator[](char letter) { return extents_[static_cast<unsigned char>(letter)]; }

 private:
  std::array<int64_t, 128> extents_;
};

// These three throw Refusal.
void check_count(Signature const& signature, int32_t num_inputs, int32_t num_outputs);
DType match_types(Signature const& signature, std::vector<nvinfer1::DataType> const& inputs);
Extents match_shapes(Signature const& signature, std::vector<nvinfer1::Dims> const& inputs);

// Whether the last of types may be what it is, given those before it: the types of the inputs in order, then that of the output.
bool is_last_allowed(Signature const& signature, std::vector<nvinfer1::DataType> const& types, int32_t num_inputs);

// The output, once the inputs match.
nvinfer1::DataType output_type(Signature const& signature, DType dtype);
nvinfer1::DimsExprs output_shape(Signature const& signature, std::vector<nvinfer1::DimsExprs> const& inputs,
                                 nvinfer1::IExprBuilder& builder);

}  // namespace trtbert
