// Plugin fields with storage of their own, as a serialised engine has them.
#pragma once

#include <NvInferRuntime.h>

#include <deque>
#include <string>
#include <vector>

#include "cases.h"

namespace host {

class Fields {
 public:
  Fields() = default;
  // As the ONNX parser hands attributes over: integers in 32 bits, texts with a closing NUL. Or wide: in 64 bits, and without.
  explicit Fields(std::vector<Attribute> const& attributes, bool is_wide = false);
  explicit Fields(nvinfer1::PluginFieldCollection const& fields);
  Fields(Fields const&) = delete;
  Fields& operator=(Fields const&) = delete;

  void add(std::string const& name, nvinfer1::PluginFieldType type, void const* data, int32_t length);
  nvinfer1::PluginFieldCollection const* collection();

 private:
  std::deque<std::string> names_;  // addresses stay
  std::deque<std::vector<char>> data_;
  std::vector<nvinfer1::PluginField> fields_;
  nvinfer1::PluginFieldCollection collection_{};
};

}  // namespace host
