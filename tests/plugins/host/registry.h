// NVIDIA's own plugin registry, of TensorRT 10 or 11, out of their lean runtime.
#pragma once

#include <NvInferRuntime.h>

#include <string>
#include <vector>

namespace host {

class Registry {
 public:
  // lean: the path of libnvinfer_lean.so.
  explicit Registry(std::string const& lean);

  int32_t major() const { return major_; }
  void load(std::string const& library);
  nvinfer1::IPluginCreatorV3One* creator(char const* name, char const* version, char const* plugin_namespace);

 private:
  void* registry_;  // the layout of its class differs between the majors
  int32_t major_;
};

}  // namespace host
