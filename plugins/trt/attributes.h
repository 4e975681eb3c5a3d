// The attributes of a node: from the fields that TensorRT hands over to checked values, and back for the engine file.
#pragma once

#include <NvInferRuntime.h>

#include <string>
#include <variant>
#include <vector>

namespace trtbert {

// What a creator declares. kFLOAT32, kINT32 (an ONNX INT comes as kINT32 or kINT64) or kCHAR (an ONNX STRING).
struct Field {
  char const* name;
  nvinfer1::PluginFieldType type;
  bool is_optional = false;  // then 0 where it is not given
};

// Neither copied nor moved: collection() points into it.
class Attributes {
 public:
  // Throws Refusal for a field that is unknown, given twice, missing, or of another type or length than declared.
  Attributes(std::vector<Field> const& declared, nvinfer1::PluginFieldCollection const* given);
  Attributes(Attributes const&) = delete;
  Attributes& operator=(Attributes const&) = delete;

  float number(char const* name) const;             // a kFLOAT32; throws Refusal unless it is finite
  float non_negative(char const* name) const;       // a kFLOAT32; throws Refusal unless it is finite and 0 or more
  int32_t integer(char const* name) const;          // a kINT32
  std::string const& text(char const* name) const;  // a kCHAR

  // Every declared field, also those that were not given: what an engine file has to keep.
  nvinfer1::PluginFieldCollection const& collection() const { return collection_; }

 private:
  using Value = std::variant<float, int32_t, std::string>;

  Value const& value(char const* name) const;

  std::vector<Field> declared_;
  std::vector<Value> values_;  // one for each declared field
  std::vector<nvinfer1::PluginField> fields_;
  nvinfer1::PluginFieldCollection collection_{};
};

}  // namespace trtbert
