// The adapter that all fused ops share: a plugin and its creator, from what one op says of itself.
#pragma once

#include <NvInferRuntime.h>
#include <cuda_runtime_api.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "trt/attributes.h"
#include "trt/signature.h"

namespace trtbert {

// One enqueue.
struct Call {
  DType dtype;  // of the float tensors
  Extents const& extents;
  void const* const* inputs;
  int32_t num_inputs;
  void* output;
  cudaStream_t stream;

  // Null for an optional input that the node does not have.
  template <class T = void>
  T const* input(int32_t index) const {
    return index < num_inputs ? static_cast<T const*>(inputs[index]) : nullptr;
  }
};

// An op whose attributes are set.
struct Op {
  Signature signature;
  std::function<cudaError_t(Call const&)> launch;
};

// What one <op>_plugin.cpp says: name, fields, and the op that checked attributes make; make throws Refusal.
struct OpKind {
  char const* name;
  std::vector<Field> fields;
  Op (*make)(Attributes const& attributes);
};

// Of all our plugins. The ONNX parser looks for version "1" and namespace "" where a node does not say otherwise.
constexpr char const* kPluginVersion = "1";
constexpr char const* kPluginNamespace = "";

class Creator final : public nvinfer1::IPluginCreatorV3One {
 public:
  explicit Creator(OpKind const& kind);

  nvinfer1::IPluginV3* createPlugin(char const* name, nvinfer1::PluginFieldCollection const* fields,
                                    nvinfer1::TensorRTPhase phase) noexcept override;
  nvinfer1::PluginFieldCollection const* getFieldNames() noexcept override { return &collection_; }
  char const* getPluginName() const noexcept override { return kind_.name; }
  char const* getPluginVersion() const noexcept override { return kPluginVersion; }
  char const* getPluginNamespace() const noexcept override { return kPluginNamespace; }

 private:
  OpKind const& kind_;
  std::string who_;  // begins every message
  std::vector<nvinfer1::PluginField> fields_;
  nvinfer1::PluginFieldCollection collection_{};
};

}  // namespace trtbert
