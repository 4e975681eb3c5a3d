// Matches the tensors of a node against its signature, and derives its output.
#include "trt/signature.h"

#include <algorithm>
#include <cctype>
#include <optional>

#include "trt/log.h"

namespace trtbert {
namespace {

using nvinfer1::DataType;
using nvinfer1::Dims;
using nvinfer1::DimsExprs;

char const* type_text(DataType type) {
  constexpr char const* kNames[] = {"FP32", "FP16", "INT8", "INT32", "BOOL", "UINT8", "FP8", "BF16", "INT64", "INT4", "FP4", "E8M0"};
  auto const index = static_cast<size_t>(type);
  return index < std::size(kNames) ? kNames[index] : "an unknown type";
}

std::optional<DType> float_type(DataType type) {
  switch (type) {
    case DataType::kFLOAT:
      return DType::kFloat32;
    case DataType::kHALF:
      return DType::kFloat16;
    case DataType::kBF16:
      return DType::kBFloat16;
    default:
      return std::nullopt;
  }
}

DataType trt_type(DType dtype) {
  switch (dtype) {
    case DType::kFloat16:
      return DataType::kHALF;
    case DType::kBFloat16:
      return DataType::kBF16;
    default:
      return DataType::kFLOAT;
  }
}

// The first float tensor decides the type of all.
std::optional<DataType> first_float(Signature const& signature, std::vector<DataType> const& types, size_t end) {
  for (size_t i = 0; i < end && i < signature.inputs.size(); ++i) {
    if (signature.inputs[i].kind == Kind::kFloat) {
      return types[i];
    }
  }
  return std::nullopt;
}

bool is_kind(Kind kind, DataType type, std::optional<DataType> decided) {
  switch (kind) {
    case Kind::kIndex:
      return type == DataType::kINT32;
    case Kind::kInt8:
      return type == DataType::kINT8;
    default:
      return decided ? type == *decided : float_type(type).has_value();
  }
}

std::string allowed_types(Kind kind, std::optional<DataType> decided) {
  switch (kind) {
    case Kind::kIndex:
      return "INT32";
    case Kind::kInt8:
      return "INT8, for it has a scale";
    default:
      return decided ? std::string(type_text(*decided)) + ", the type of the other tensors" : "FP32, FP16 or BF16";
  }
}

// One axis of a shape in letters.
struct Axis {
  char letter;
  bool is_plus_one;
};

bool has_leading_axes(Tensor const& tensor) { return tensor.shape[0] == '*'; }

std::vector<Axis> axes_of(Tensor const& tensor) {
  std::vector<Axis> axes;
  for (char const* c = tensor.shape; *c != '\0'; ++c) {
    if (std::isalpha(static_cast<unsigned char>(*c)) != 0) {
      axes.push_back({*c, c[1] == '+'});
    }
  }
  return axes;
}

bool is_lower(char letter) { return std::islower(static_cast<unsigned char>(letter)) != 0; }

char upper(char letter) { return static_cast<char>(std::toupper(static_cast<unsigned char>(letter))); }

std::string bracketed(std::vector<std::string> const& axes) {
  std::string text;
  for (std::string const& axis : axes) {
    text += (text.empty() ? "" : ",") + axis;
  }
  return "[" + text + "]";
}

std::vector<std::string> extent_texts(Dims const& dims) {
  std::vector<std::string> texts;
  for (int32_t i = 0; i < dims.nbDims; ++i) {
    texts.push_back(dims.d[i] < 0 ? "?" : std::to_string(dims.d[i]));
  }
  return texts;
}

std::string dims_text(Dims const& dims) { return bracketed(extent_texts(dims)); }

bool is_equal_or_unknown(int64_t a, int64_t b) { return a == Extents::kUnknown || b == Extents::kUnknown || a == b; }

// The extents and leading axes that the tensors matched so far agree on.
struct Matched {
  Extents extents;
  std::optional<Dims> leading;
};

// The shape with what is known in place of its letters.
std::string allowed_shape(Tensor const& tensor, Matched const& known) {
  std::vector<std::string> axes;
  if (has_leading_axes(tensor) && !known.leading) {
    axes.emplace_back("...");
  } else if (has_leading_axes(tensor)) {
    axes = extent_texts(*known.leading);
  }
  for (Axis const& axis : axes_of(tensor)) {
    int64_t const extent = known.extents[upper(axis.letter)];
    std::string const text = extent == Extents::kUnknown ? upper(axis.letter) + std::string(axis.is_plus_one ? "+1" : "")
                                                         : std::to_string(extent + (axis.is_plus_one ? 1 : 0));
    axes.push_back(text + (is_lower(axis.letter) ? " or 1" : ""));
  }
  return bracketed(axes);
}

bool match_axis(Axis const& axis, int64_t dim, Extents& extents) {
  if (dim < 0) {
    return true;
  }
  if (is_lower(axis.letter)) {
    extents[axis.letter] = dim;
    return dim == 1 || is_equal_or_unknown(dim, extents[upper(axis.letter)]);
  }
  int64_t const extent = axis.is_plus_one ? dim - 1 : dim;
  if (extent < 0 || !is_equal_or_unknown(extent, extents[axis.letter])) {
    return false;
  }
  extents[axis.letter] = extent;
  return true;
}

bool match_leading_axes(Dims const& dims, int32_t num_leading, Matched& matched) {
  Dims leading = dims;
  leading.nbDims = num_leading;
  if (!matched.leading) {
    matched.leading = leading;
  }
  bool is_match = matched.leading->nbDims == num_leading;
  int64_t rows = 1;
  for (int32_t i = 0; i < num_leading && is_match; ++i) {
    is_match = is_equal_or_unknown(leading.d[i], matched.leading->d[i]);
    rows = rows == Extents::kUnknown || leading.d[i] < 0 ? Extents::kUnknown : rows * leading.d[i];
  }
  matched.extents['*'] = rows;
  return is_match;
}

bool match_tensor(Tensor const& tensor, Dims const& dims, Matched& matched) {
  std::vector<Axis> const axes = axes_of(tensor);
  int32_t const num_leading = dims.nbDims - static_cast<int32_t>(axes.size());
  bool is_match = has_leading_axes(tensor) ? num_leading >= 0 && match_leading_axes(dims, num_leading, matched) : num_leading == 0;
  for (size_t i = 0; i < axes.size() && is_match; ++i) {
    is_match = match_axis(axes[i], dims.d[num_leading + i], matched.extents);
  }
  return is_match;
}

std::string inputs_text(Signature const& signature, std::vector<Dims> const& inputs) {
  std::string text;
  for (size_t i = 0; i < inputs.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::string(signature.inputs[i].name) + " " + dims_text(inputs[i]);
  }
  return text;
}

// Any input's axis of that letter: they are equal.
nvinfer1::IDimensionExpr const* find_expr(Signature const& signature, std::vector<DimsExprs> const& inputs, char letter) {
  for (size_t i = 0; i < inputs.size(); ++i) {
    std::vector<Axis> const axes = axes_of(signature.inputs[i]);
    for (size_t k = 0; k < axes.size(); ++k) {
      if (axes[k].letter == letter && !axes[k].is_plus_one) {
        return inputs[i].d[inputs[i].nbDims - axes.size() + k];
      }
    }
  }
  throw std::logic_error(std::string("no input has an axis ") + letter);
}

}  // namespace

void check_count(Signature const& signature, int32_t num_inputs, int32_t num_outputs) {
  auto const num_all = static_cast<int32_t>(signature.inputs.size());
  if (num_inputs != signature.num_required && num_inputs != num_all) {
    std::string names;
    for (Tensor const& tensor : signature.inputs) {
      names += (names.empty() ? "" : ", ") + std::string(tensor.name);
    }
    throw Refusal(std::to_string(num_inputs) + " inputs came; allowed are " + std::to_string(signature.num_required) +
                  (num_all == signature.num_required ? "" : " or " + std::to_string(num_all)) + ": " + names);
  }
  if (num_outputs != 1) {
    throw Refusal(std::to_string(num_outputs) + " outputs are asked for; there is one");
  }
}

DType match_types(Signature const& signature, std::vector<DataType> const& inputs) {
  for (size_t i = 0; i < inputs.size(); ++i) {
    Tensor const& tensor = signature.inputs[i];
    std::optional<DataType> const decided = first_float(signature, inputs, i);
    if (!is_kind(tensor.kind, inputs[i], decided)) {
      throw Refusal(std::string(tensor.name) + " is " + type_text(inputs[i]) + "; allowed is " + allowed_types(tensor.kind, decided));
    }
  }
  return *float_type(*first_float(signature, inputs, inputs.size()));
}

bool is_last_allowed(Signature const& signature, std::vector<DataType> const& types, int32_t num_inputs) {
  size_t const pos = types.size() - 1;
  Tensor const& tensor = pos < static_cast<size_t>(num_inputs) ? signature.inputs[pos] : signature.output;
  return is_kind(tensor.kind, types[pos], first_float(signature, types, pos));
}

Extents match_shapes(Signature const& signature, std::vector<Dims> const& inputs) {
  Matched matched;
  for (Fixed const& fixed : signature.fixed) {
    matched.extents[fixed.letter] = fixed.extent;
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    Matched const before = matched;
    if (!match_tensor(signature.inputs[i], inputs[i], matched)) {
      throw Refusal(std::string(signature.inputs[i].name) + " is of shape " + dims_text(inputs[i]) + "; allowed is " +
                    allowed_shape(signature.inputs[i], before) + " (came: " + inputs_text(signature, inputs) + ")");
    }
  }
  return matched.extents;
}

DataType output_type(Signature const& signature, DType dtype) {
  return signature.output.kind == Kind::kInt8 ? DataType::kINT8 : trt_type(dtype);
}

DimsExprs output_shape(Signature const& signature, std::vector<DimsExprs> const& inputs, nvinfer1::IExprBuilder& builder) {
  DimsExprs output{};
  std::vector<Axis> const axes = axes_of(signature.output);
  if (has_leading_axes(signature.output)) {
    // The ops that have leading axes have them in their first input.
    output = inputs[0];
    output.nbDims -= static_cast<int32_t>(axes.size());
  }
  for (Axis const& axis : axes) {
    auto const is_letter = [&](Fixed const& fixed) { return fixed.letter == axis.letter; };
    auto const fixed = std::find_if(signature.fixed.begin(), signature.fixed.end(), is_letter);
    output.d[output.nbDims++] =
        fixed != signature.fixed.end() ? builder.constant(fixed->extent) : find_expr(signature, inputs, axis.letter);
  }
  return output;
}

}  // namespace trtbert
