// IPluginV3 with its three capabilities, for any fused op.
#include "trt/plugin.h"

#include "trt/log.h"

namespace trtbert {
namespace {

using nvinfer1::DataType;
using nvinfer1::Dims;
using nvinfer1::DimsExprs;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::PluginTensorDesc;

constexpr int32_t kFailure = 1;

// A node: an op with the node's attributes. It never changes, and a plugin shares it with its clones.
struct Node {
  Node(OpKind const& kind, char const* node_name, nvinfer1::PluginFieldCollection const* fields)
      : kind(kind), who(std::string(kind.name) + " " + node_name), attributes(kind.fields, fields), op(kind.make(attributes)) {}

  OpKind const& kind;
  std::string who;  // begins every message
  Attributes attributes;
  Op op;
};

std::vector<DataType> types_of(PluginTensorDesc const* tensors, int32_t count) {
  std::vector<DataType> types;
  for (int32_t i = 0; i < count; ++i) {
    types.push_back(tensors[i].type);
  }
  return types;
}

std::vector<Dims> shapes_of(PluginTensorDesc const* tensors, int32_t count) {
  std::vector<Dims> shapes;
  for (int32_t i = 0; i < count; ++i) {
    shapes.push_back(tensors[i].dims);
  }
  return shapes;
}

Dims known_extents(DimsExprs const& exprs) {
  Dims dims{};
  dims.nbDims = exprs.nbDims;
  for (int32_t i = 0; i < exprs.nbDims; ++i) {
    dims.d[i] = exprs.d[i]->isConstant() ? exprs.d[i]->getConstantValue() : Extents::kUnknown;
  }
  return dims;
}

class Plugin final : public nvinfer1::IPluginV3,
                     public nvinfer1::IPluginV3OneCore,
                     public nvinfer1::IPluginV3OneBuild,
                     public nvinfer1::IPluginV3OneRuntime {
 public:
  explicit Plugin(std::shared_ptr<Node const> node, int32_t num_inputs = 0) : node_(std::move(node)), num_inputs_(num_inputs) {}

  // IPluginV3
  nvinfer1::IPluginCapability* getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept override {
    switch (type) {
      case nvinfer1::PluginCapabilityType::kCORE:
        return static_cast<nvinfer1::IPluginV3OneCore*>(this);
      case nvinfer1::PluginCapabilityType::kBUILD:
        return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
      case nvinfer1::PluginCapabilityType::kRUNTIME:
        return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
      default:
        return nullptr;
    }
  }

  nvinfer1::IPluginV3* clone() noexcept override {
    return guarded<IPluginV3*>(node_->who, nullptr, [&] { return new Plugin(node_, num_inputs_); });
  }

  // IPluginV3OneCore
  char const* getPluginName() const noexcept override { return node_->kind.name; }
  char const* getPluginVersion() const noexcept override { return kPluginVersion; }
  char const* getPluginNamespace() const noexcept override { return kPluginNamespace; }

  // IPluginV3OneBuild
  int32_t getNbOutputs() const noexcept override { return 1; }

  int32_t getOutputDataTypes(DataType* output_types, int32_t num_outputs, DataType const* input_types,
                             int32_t num_inputs) const noexcept override {
    return guarded(node_->who, kFailure, [&] {
      check_count(signature(), num_inputs, num_outputs);
      output_types[0] = output_type(signature(), match_types(signature(), {input_types, input_types + num_inputs}));
      return 0;
    });
  }

  int32_t getOutputShapes(DimsExprs const* inputs, int32_t num_inputs, DimsExprs const* /*shape_inputs*/, int32_t num_shape_inputs,
                          DimsExprs* outputs, int32_t num_outputs, nvinfer1::IExprBuilder& builder) noexcept override {
    return guarded(node_->who, kFailure, [&] {
      check_count(signature(), num_inputs, num_outputs);
      if (num_shape_inputs != 0) {
        throw Refusal(std::to_string(num_shape_inputs) + " shape inputs came; allowed are none");
      }
      std::vector<Dims> shapes;
      for (int32_t i = 0; i < num_inputs; ++i) {
        shapes.push_back(known_extents(inputs[i]));
      }
      match_shapes(signature(), shapes);
      outputs[0] = output_shape(signature(), {inputs, inputs + num_inputs}, builder);
      return 0;
    });
  }

  bool supportsFormatCombination(int32_t pos, DynamicPluginTensorDesc const* tensors, int32_t num_inputs,
                                 int32_t num_outputs) noexcept override {
    return guarded(node_->who, false, [&] {
      check_count(signature(), num_inputs, num_outputs);
      std::vector<DataType> types;
      for (int32_t i = 0; i <= pos; ++i) {  // What follows is not decided yet.
        types.push_back(tensors[i].desc.type);
      }
      return tensors[pos].desc.format == nvinfer1::TensorFormat::kLINEAR && is_last_allowed(signature(), types, num_inputs);
    });
  }

  // The bounds of each tensor are estimates of TensorRT's that need not agree between tensors: only what is fixed is checked here.
  int32_t configurePlugin(DynamicPluginTensorDesc const* inputs, int32_t num_inputs, DynamicPluginTensorDesc const* /*outputs*/,
                          int32_t num_outputs) noexcept override {
    return guarded(node_->who, kFailure, [&] {
      std::vector<PluginTensorDesc> tensors;
      for (int32_t i = 0; i < num_inputs; ++i) {
        tensors.push_back(inputs[i].desc);
      }
      return check(tensors.data(), num_inputs, num_outputs);
    });
  }

  // IPluginV3OneRuntime
  int32_t onShapeChange(PluginTensorDesc const* inputs, int32_t num_inputs, PluginTensorDesc const* /*outputs*/,
                        int32_t num_outputs) noexcept override {
    return guarded(node_->who, kFailure, [&] { return check(inputs, num_inputs, num_outputs); });
  }

  int32_t enqueue(PluginTensorDesc const* inputs, PluginTensorDesc const* /*outputs*/, void const* const* input_data,
                  void* const* output_data, void* /*workspace*/, cudaStream_t stream) noexcept override {
    return guarded(node_->who, kFailure, [&] {
      check_count(signature(), num_inputs_, 1);
      DType const dtype = match_types(signature(), types_of(inputs, num_inputs_));
      Extents const extents = match_shapes(signature(), shapes_of(inputs, num_inputs_));
      cudaError_t const error = node_->op.launch({dtype, extents, input_data, num_inputs_, output_data[0], stream});
      if (error != cudaSuccess) {
        throw Refusal(std::string("the kernel was not launched: ") + cudaGetErrorString(error));
      }
      return 0;
    });
  }

  nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext* /*context*/) noexcept override { return clone(); }

  nvinfer1::PluginFieldCollection const* getFieldsToSerialize() noexcept override { return &node_->attributes.collection(); }

 private:
  Signature const& signature() const { return node_->op.signature; }

  int32_t check(PluginTensorDesc const* inputs, int32_t num_inputs, int32_t num_outputs) {
    check_count(signature(), num_inputs, num_outputs);
    match_types(signature(), types_of(inputs, num_inputs));
    match_shapes(signature(), shapes_of(inputs, num_inputs));
    num_inputs_ = num_inputs;
    return 0;
  }

  std::shared_ptr<Node const> node_;
  int32_t num_inputs_;  // enqueue is not told
};

}  // namespace

Creator::Creator(OpKind const& kind) : kind_(kind), who_(kind.name) {
  for (Field const& field : kind_.fields) {
    fields_.emplace_back(field.name, nullptr, field.type, 1);
  }
  collection_.nbFields = static_cast<int32_t>(fields_.size());
  collection_.fields = fields_.data();
}

nvinfer1::IPluginV3* Creator::createPlugin(char const* name, nvinfer1::PluginFieldCollection const* fields,
                                           nvinfer1::TensorRTPhase /*phase*/) noexcept {
  return guarded<nvinfer1::IPluginV3*>(who_, nullptr, [&] { return new Plugin(std::make_shared<Node const>(kind_, name, fields)); });
}

}  // namespace trtbert
