// The calls of TensorRT in their order: while an engine is built, when it is written and read, when it runs.
#include "life_cycle.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "check.h"
#include "exprs.h"
#include "fields.h"

namespace host {
namespace {

using nvinfer1::DataType;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::IPluginV3;
using nvinfer1::PluginCapabilityType;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorFormat;
using nvinfer1::TensorRTPhase;

constexpr DataType kFloatTypes[] = {DataType::kFLOAT, DataType::kHALF, DataType::kBF16};
// All that any version from 10.4 to 11 has.
constexpr int kNumTypes = 12;
constexpr int kNumFormats = 13;

DataType type_of(Kind kind, DataType float_type) {
  return kind == Kind::kFloat ? float_type : kind == Kind::kInt8 ? DataType::kINT8 : DataType::kINT32;
}

DataType output_type(Case const& c, DataType float_type) { return c.y_scale != 0.0F ? DataType::kINT8 : float_type; }

std::vector<DataType> types_of(std::vector<PluginTensorDesc> const& descs) {
  std::vector<DataType> types;
  for (PluginTensorDesc const& desc : descs) types.push_back(desc.type);
  return types;
}

void check_core(IPluginV3& plugin, Case const& c) {
  auto* const core = static_cast<nvinfer1::IPluginV3OneCore*>(plugin.getCapabilityInterface(PluginCapabilityType::kCORE));
  check(core != nullptr, "there is no core capability");
  check(core->getPluginName() == c.op, "the plugin's name is not the creator's");
  check(std::strcmp(core->getPluginVersion(), "1") == 0 && std::strcmp(core->getPluginNamespace(), "") == 0, "version or namespace differ");
}

void check_output_shape(nvinfer1::IPluginV3OneBuild& build, Case const& c) {
  ExprBuilder builder;
  std::vector<nvinfer1::DimsExprs> inputs;
  for (Input const& input : c.inputs) {
    nvinfer1::DimsExprs exprs{};
    for (size_t axis = 0; axis < input.shapes[0].size(); ++axis) {
      bool const is_last = axis + 1 == input.shapes[0].size();
      exprs.d[exprs.nbDims++] = builder.make(input.shapes[0][axis], input.is_weight || (is_last && input.kind != Kind::kIndex));
    }
    inputs.push_back(exprs);
  }
  nvinfer1::DimsExprs output{};
  auto const count = static_cast<int32_t>(inputs.size());
  check(build.getOutputShapes(inputs.data(), count, nullptr, 0, &output, 1, builder) == 0, "getOutputShapes fails");
  check(output.nbDims == static_cast<int32_t>(c.outputs[0].size()), "the output is of another rank");
  for (int32_t axis = 0; axis < output.nbDims; ++axis) {
    auto const* const expr = static_cast<Expr const*>(output.d[axis]);
    check(expr != nullptr && expr->value() == c.outputs[0][axis], "output axis " + std::to_string(axis) + " is of another extent");
  }
  check(output.d[output.nbDims - 1]->isConstant(), "the width of the output is not known while the engine is built");
}

// Follows every combination that the plugin accepts so far, asks for each type and format of the next tensor, and collects the whole ones.
void accepted(nvinfer1::IPluginV3OneBuild& build, std::vector<DynamicPluginTensorDesc>& tensors, size_t pos,
              std::vector<std::vector<DataType>>& found) {
  auto const num_inputs = static_cast<int32_t>(tensors.size()) - 1;
  if (pos == tensors.size()) {
    found.emplace_back();
    for (auto const& tensor : tensors) {
      check(tensor.desc.format == TensorFormat::kLINEAR, "a format other than linear is accepted");
      found.back().push_back(tensor.desc.type);
    }
    return;
  }
  for (int type = 0; type < kNumTypes; ++type) {
    for (int format = 0; format < kNumFormats; ++format) {
      tensors[pos].desc.type = static_cast<DataType>(type);
      tensors[pos].desc.format = static_cast<TensorFormat>(format);
      if (build.supportsFormatCombination(static_cast<int32_t>(pos), tensors.data(), num_inputs, 1)) {
        accepted(build, tensors, pos + 1, found);
      }
    }
  }
}

void check_formats(nvinfer1::IPluginV3OneBuild& build, Case const& c) {
  std::vector<DynamicPluginTensorDesc> tensors(c.inputs.size() + 1);
  std::vector<std::vector<DataType>> found;
  accepted(build, tensors, 0, found);
  std::vector<std::vector<DataType>> expected;
  for (DataType const float_type : kFloatTypes) {
    expected.push_back(types_of(input_descs(c, 0, float_type)));
    expected.back().push_back(output_type(c, float_type));
  }
  check(found.size() == expected.size(), std::to_string(found.size()) + " combinations of types and formats are accepted; expected are 3");
  check(std::is_permutation(found.begin(), found.end(), expected.begin()), "other combinations of types are accepted than expected");
}

// As while an engine is built: the extents of what is no weight are unknown.
void check_configure(nvinfer1::IPluginV3OneBuild& build, Case const& c, DataType float_type) {
  std::vector<PluginTensorDesc> const inputs = input_descs(c, 0, float_type);
  std::vector<DynamicPluginTensorDesc> tensors;
  for (size_t i = 0; i < inputs.size(); ++i) {
    tensors.push_back({inputs[i], inputs[i].dims, inputs[i].dims, inputs[i].dims});
    for (int32_t axis = 0; axis + 1 < inputs[i].dims.nbDims && !c.inputs[i].is_weight; ++axis) tensors[i].desc.dims.d[axis] = -1;
  }
  PluginTensorDesc const output = output_desc(c, 0, float_type);
  DynamicPluginTensorDesc const dynamic_output{output, output.dims, output.dims, output.dims};
  auto const count = static_cast<int32_t>(tensors.size());
  check(build.configurePlugin(tensors.data(), count, &dynamic_output, 1) == 0, "configurePlugin fails");
  check(build.getWorkspaceSize(tensors.data(), count, &dynamic_output, 1) == 0, "the plugin wants workspace");
}

// As an engine file does: a copy outlives the plugin that was serialised, and makes the one that runs.
PluginPtr through_engine_file(Host const& host, Case const& c, PluginPtr plugin) {
  nvinfer1::PluginFieldCollection const* const serialised = runtime_of(*plugin).getFieldsToSerialize();
  check(serialised != nullptr, "getFieldsToSerialize gives null");
  Fields file(*serialised);
  plugin.reset();
  PluginPtr runtime(host.registry.creator(c.op.c_str(), "1", "")->createPlugin("node", file.collection(), TensorRTPhase::kRUNTIME));
  check(runtime != nullptr, "createPlugin of the runtime phase gives null: " + host.log.take());
  return runtime;
}

struct Run {
  std::vector<std::vector<char>> bytes;
  std::vector<Operand> operands;  // the numbers that the bytes stand for
};

Run make_run(Case const& c, int run, DataType float_type) {
  Random random(run + 1);
  Run made;
  for (Input const& input : c.inputs) {
    DataType const type = type_of(input.kind, float_type);
    made.bytes.push_back(encode(input.fill(input.shapes[run], random), type));
    made.operands.push_back({input.shapes[run], decode(made.bytes.back(), type)});
    for (double& value : made.operands.back().values) value *= input.kind == Kind::kInt8 ? input.scale : 1.0;
  }
  return made;
}

// Of 1 + |y|.
double tolerance(Case const& c, DataType float_type) {
  double const rounding = float_type == DataType::kFLOAT ? 1e-5 : float_type == DataType::kHALF ? 2e-3 : 1.6e-2;
  return rounding + (c.has_int8_products ? 0.05 : 0.0);
}

void check_numbers(Case const& c, DataType float_type, Values const& y, Values const& expected) {
  for (size_t i = 0; i < expected.size(); ++i) {
    double const got = c.y_scale != 0.0F ? y[i] * c.y_scale : y[i];
    double const wanted = c.y_scale != 0.0F ? std::clamp(expected[i], -128.0 * c.y_scale, 127.0 * c.y_scale) : expected[i];
    double const allowed = tolerance(c, float_type) * (1.0 + std::abs(wanted)) + 0.51 * c.y_scale;
    check(std::abs(got - wanted) <= allowed, std::string("in ") + name_of(float_type) + ", y[" + std::to_string(i) + "] is " +
                                                 std::to_string(got) + "; expected is " + std::to_string(wanted));
  }
}

void check_enqueue(nvinfer1::IPluginV3OneRuntime& runtime, Case const& c, int run, DataType float_type) {
  std::vector<PluginTensorDesc> const inputs = input_descs(c, run, float_type);
  PluginTensorDesc const output = output_desc(c, run, float_type);
  Run const made = make_run(c, run, float_type);
  std::vector<void const*> pointers;
  for (auto const& bytes : made.bytes) pointers.push_back(bytes.data());
  size_t const size = encode({0.0}, output.type).size();
  std::vector<char> y(num_elements(c.outputs[run]) * size, 0x7F);
  void* y_pointer = y.data();
  check(runtime.enqueue(inputs.data(), &output, pointers.data(), &y_pointer, nullptr, nullptr) == 0, "enqueue fails");
  check_numbers(c, float_type, decode(y, output.type), c.reference(made.operands));
}

void check_runs(Host const& host, IPluginV3& plugin, Case const& c, DataType float_type) {
  PluginPtr const attached(runtime_of(plugin).attachToContext(nullptr));
  check(attached != nullptr, "attachToContext gives null");
  for (int run = 0; run < kNumRuns; ++run) {
    std::vector<PluginTensorDesc> const inputs = input_descs(c, run, float_type);
    PluginTensorDesc const output = output_desc(c, run, float_type);
    check(runtime_of(*attached).onShapeChange(inputs.data(), static_cast<int32_t>(inputs.size()), &output, 1) == 0, "onShapeChange fails");
    if (host.set_compute_capability != nullptr) check_enqueue(runtime_of(*attached), c, run, float_type);
  }
}

void run_with(Host const& host, Case const& c, DataType float_type) {
  Fields fields(c.attributes);
  PluginPtr plugin(host.registry.creator(c.op.c_str(), "1", "")->createPlugin("node", fields.collection(), TensorRTPhase::kBUILD));
  check(plugin != nullptr, "createPlugin gives null");
  check_core(*plugin, c);

  nvinfer1::IPluginV3OneBuild& build = build_of(*plugin);
  check(build.getNbOutputs() == 1, "there is not one output");
  std::vector<DataType> const types = types_of(input_descs(c, 0, float_type));
  DataType type{};
  check(build.getOutputDataTypes(&type, 1, types.data(), static_cast<int32_t>(types.size())) == 0, "getOutputDataTypes fails");
  check(type == output_type(c, float_type), std::string("the output is ") + name_of(type));
  check_output_shape(build, c);
  check_formats(build, c);
  check_configure(build, c, float_type);

  PluginPtr clone(plugin->clone());
  check(clone != nullptr, "clone gives null");
  plugin.reset();
  PluginPtr const runtime = through_engine_file(host, c, std::move(clone));
  check_runs(host, *runtime, c, float_type);
}

}  // namespace

nvinfer1::IPluginV3OneBuild& build_of(IPluginV3& plugin) {
  auto* const build = static_cast<nvinfer1::IPluginV3OneBuild*>(plugin.getCapabilityInterface(PluginCapabilityType::kBUILD));
  check(build != nullptr, "there is no build capability");
  return *build;
}

nvinfer1::IPluginV3OneRuntime& runtime_of(IPluginV3& plugin) {
  auto* const runtime = static_cast<nvinfer1::IPluginV3OneRuntime*>(plugin.getCapabilityInterface(PluginCapabilityType::kRUNTIME));
  check(runtime != nullptr, "there is no runtime capability");
  return *runtime;
}

std::vector<PluginTensorDesc> input_descs(Case const& c, int run, DataType float_type) {
  std::vector<PluginTensorDesc> descs;
  for (Input const& input : c.inputs) {
    descs.push_back({dims_of(input.shapes[run]), type_of(input.kind, float_type), TensorFormat::kLINEAR, 1.0F});
  }
  return descs;
}

PluginTensorDesc output_desc(Case const& c, int run, DataType float_type) {
  return {dims_of(c.outputs[run]), output_type(c, float_type), TensorFormat::kLINEAR, 1.0F};
}

void run_life_cycle(Host const& host, Case const& c) {
  for (DataType const float_type : kFloatTypes) {
    try {
      run_with(host, c, float_type);
      check(host.log.take().empty(), "a message was logged though nothing was wrong");
    } catch (Failure const& failure) {
      throw Failure(c.op + ", " + c.label + ", " + name_of(float_type) + ": " + failure.what() + " " + host.log.take());
    }
  }
  std::printf("ok  %s, %s\n", c.op.c_str(), c.label.c_str());
}

}  // namespace host
