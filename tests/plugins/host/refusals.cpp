// Wrong attributes, types and shapes: createPlugin gives null, the other calls something else than 0, and the logger hears why.
#include "refusals.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>

#include "check.h"
#include "exprs.h"
#include "fields.h"

namespace host {
namespace {

using nvinfer1::DataType;
using nvinfer1::PluginFieldType;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorRTPhase;

using Attributes = std::vector<Attribute>;
using Descs = std::vector<PluginTensorDesc>;

template <class Change>
struct Refusal {
  char const* op;
  Change change;
  char const* message;  // has to be in what is logged
};

Case const& first_of(std::vector<Case> const& cases, std::string const& op) {
  return *std::find_if(cases.begin(), cases.end(), [&](Case const& c) { return c.op == op; });
}

// That a call failed, and that one line says of which op and why.
void check_refused(Host const& host, bool is_refused, std::string const& op, std::string const& call, std::string const& message) {
  std::string const logged = host.log.take();
  std::string const what = op + ": " + call + " with '" + message + "' ";
  check(is_refused, what + "is not refused");
  check(logged.find(op) != std::string::npos && logged.find(message) != std::string::npos, what + "logs another message: " + logged);
}

nvinfer1::IPluginV3* create(Host const& host, std::string const& op, Fields& fields, TensorRTPhase phase = TensorRTPhase::kBUILD) {
  return host.registry.creator(op.c_str(), "1", "")->createPlugin("node", fields.collection(), phase);
}

auto set(char const* name, std::variant<float, int32_t, std::string> const& value) {
  return [=](Attributes& attributes) {
    auto const is_name = [&](Attribute const& attribute) { return attribute.name == name; };
    attributes.erase(std::remove_if(attributes.begin(), attributes.end(), is_name), attributes.end());
    attributes.push_back({name, value});
  };
}

auto drop(char const* name) {
  return [=](Attributes& attributes) {
    auto const is_name = [&](Attribute const& attribute) { return attribute.name == name; };
    attributes.erase(std::remove_if(attributes.begin(), attributes.end(), is_name), attributes.end());
  };
}

auto repeat(char const* name) {
  return [=](Attributes& attributes) {
    auto const is_name = [&](Attribute const& attribute) { return attribute.name == name; };
    Attribute const copy = *std::find_if(attributes.begin(), attributes.end(), is_name);
    attributes.push_back(copy);
  };
}

using AttributeRefusal = Refusal<std::function<void(Attributes&)>>;

std::vector<AttributeRefusal> attribute_refusals() {
  std::vector<AttributeRefusal> refusals{
      {"FusedEmbedLayerNorm", set("epsilon", -1.0F), "epsilon is -1; allowed is 0 or a positive number"},
      {"FusedEmbedLayerNorm", set("word_scale", 0.1F), "only one of the attributes word_scale and position_scale"},
      {"FusedEmbedLayerNorm", set("token_type_scale", 0.1F), "token_type_scale is set without word_scale"},
      {"FusedSkipLayerNorm", drop("epsilon"), "epsilon is missing"},
      {"FusedSkipLayerNorm", repeat("epsilon"), "epsilon is given twice"},
      {"FusedSkipLayerNorm", set("epsilon", NAN), "epsilon is nan; allowed is a finite number"},
      {"FusedSkipLayerNorm", set("epsilon", 1), "epsilon is of type INT32; allowed is FLOAT32"},
      {"FusedSkipLayerNorm", set("eps", 1e-5F), "unknown attribute eps; allowed are epsilon, x_scale, skip_scale, y_scale"},
      {"FusedSkipLayerNorm", set("x_scale", 0.1F), "only one of the attributes x_scale and skip_scale"},
      {"FusedSkipLayerNorm", set("y_scale", -0.1F), "y_scale is -0.1; allowed is 0 or a positive number"},
      {"FusedBiasGelu", set("approximate", "erf"), "approximate is \"erf\"; allowed are \"none\" and \"tanh\""},
      {"FusedBiasGelu", drop("approximate"), "approximate is missing"},
      {"FusedBiasGelu", set("x_scale", INFINITY), "x_scale is inf; allowed is a finite number"},
  };
  for (char const* op : {"FusedQkvAttention", "FusedPackedQkvAttention"}) {
    refusals.insert(refusals.end(), {
                                        {op, set("num_heads", 0), "num_heads is 0; allowed is 1 to 65535"},
                                        {op, set("num_heads", 2.0F), "num_heads is of type FLOAT32; allowed is INT32 or INT64"},
                                        {op, set("num_kv_heads", 5), "num_kv_heads is 5; allowed is 0 or a divisor of num_heads, which is"},
                                        {op, set("num_kv_heads", -1), "num_kv_heads is -1; allowed is 0 or a divisor of num_heads"},
                                        {op, set("num_kv_heads", 1.0F), "num_kv_heads is of type FLOAT32; allowed is INT32 or INT64"},
                                        {op, set("head_size", 12), "head_size is 12; allowed is 8 to 128 in steps of 8"},
                                        {op, set("head_size", 136), "head_size is 136; allowed is 8 to 128 in steps of 8"},
                                        {op, set("head_size", 0), "head_size is 0; allowed is 8 to 128 in steps of 8"},
                                        {op, drop("scale"), "scale is missing"},
                                        {op, set("k_scale", 0.1F), "attributes are missing: q_scale, v_scale, probability_scale"},
                                        {op, set("k_scale", NAN), "k_scale is nan"},
                                    });
  }
  return refusals;
}

void run_attribute_refusal(Host const& host, std::vector<Case> const& cases, AttributeRefusal const& refusal) {
  Attributes attributes = first_of(cases, refusal.op).attributes;
  refusal.change(attributes);
  for (TensorRTPhase const phase : {TensorRTPhase::kBUILD, TensorRTPhase::kRUNTIME}) {
    Fields fields(attributes);
    PluginPtr const plugin(create(host, refusal.op, fields, phase));
    check_refused(host, plugin == nullptr, refusal.op, "createPlugin", refusal.message);
  }
}

// What the attributes of a case cannot express.
void run_field_refusals(Host const& host) {
  std::string const op = "FusedQkvAttention";
  auto const refuse = [&](PluginFieldType type, void const* data, int32_t length, char const* message) {
    Fields fields;
    fields.add("num_heads", type, data, length);
    PluginPtr const plugin(create(host, op, fields));
    check_refused(host, plugin == nullptr, op, "createPlugin", message);
  };
  int64_t const large = int64_t{1} << 40;
  refuse(PluginFieldType::kINT64, &large, 1, "num_heads is 1099511627776; allowed is what fits into 32 bits");
  int32_t const two[] = {2, 2};
  refuse(PluginFieldType::kINT32, two, 2, "num_heads has 2 values; allowed is one");
  PluginPtr const plugin(host.registry.creator(op.c_str(), "1", "")->createPlugin("node", nullptr, TensorRTPhase::kBUILD));
  check_refused(host, plugin == nullptr, op, "createPlugin", "num_heads is missing");
}

auto type(int input, DataType type) {
  return [=](Descs& descs) { descs[input].type = type; };
}

auto shape(int input, Shape const& shape) {
  return [=](Descs& descs) { descs[input].dims = dims_of(shape); };
}

auto count(size_t count) {
  return [=](Descs& descs) { descs.resize(count); };
}

using InputRefusal = Refusal<std::function<void(Descs&)>>;

// Of FP16 inputs in the shapes of each op's first case.
std::vector<InputRefusal> type_refusals() {
  return {
      {"FusedEmbedLayerNorm", type(0, DataType::kINT64), "input_ids is INT64; allowed is INT32"},
      {"FusedEmbedLayerNorm", type(3, DataType::kFLOAT), "position is FP32; allowed is FP16, the type of the other tensors"},
      {"FusedQkvAttention", type(0, DataType::kINT8), "qkv is INT8; allowed is FP32, FP16 or BF16"},
      {"FusedQkvAttention", type(1, DataType::kHALF), "mask is FP16; allowed is INT32"},
      {"FusedPackedQkvAttention", type(1, DataType::kINT64), "cu_seqlens is INT64; allowed is INT32"},
      {"FusedSkipLayerNorm", type(0, DataType::kINT8), "x is INT8; allowed is FP32, FP16 or BF16"},
      {"FusedSkipLayerNorm", type(2, DataType::kFLOAT), "gamma is FP32; allowed is FP16"},
      {"FusedBiasGelu", type(1, DataType::kBF16), "bias is BF16; allowed is FP16"},
  };
}

std::vector<InputRefusal> shape_refusals() {
  return {
      {"FusedEmbedLayerNorm", count(5), "5 inputs came; allowed are 6 or 8"},
      {"FusedEmbedLayerNorm", count(7), "7 inputs came; allowed are 6 or 8"},
      {"FusedEmbedLayerNorm", shape(0, {5}), "input_ids is of shape [5]; allowed is [B,S]"},
      {"FusedEmbedLayerNorm", shape(1, {3, 5}), "position_ids is of shape [3,5]; allowed is [2 or 1,5]"},
      {"FusedEmbedLayerNorm", shape(3, {10, 32}), "position is of shape [10,32]; allowed is [P,24]"},
      {"FusedEmbedLayerNorm", shape(5, {1, 24}), "beta is of shape [1,24]; allowed is [24]"},
      {"FusedQkvAttention", count(1), "1 inputs came; allowed are 2 or 3"},
      {"FusedQkvAttention", shape(0, {2, 5, 64}), "qkv is of shape [2,5,64]; allowed is [B,S,96]"},
      {"FusedQkvAttention", shape(0, {10, 96}), "qkv is of shape [10,96]; allowed is [B,S,96]"},
      {"FusedQkvAttention", shape(1, {2, 6}), "mask is of shape [2,6]; allowed is [2,5]"},
      {"FusedPackedQkvAttention", shape(0, {7, 96}), "qkv is of shape [7,96]; allowed is [T,216]"},
      {"FusedPackedQkvAttention", shape(1, {0}), "cu_seqlens is of shape [0]; allowed is [B+1]"},
      {"FusedSkipLayerNorm", count(3), "3 inputs came; allowed are 4 or 5"},
      {"FusedSkipLayerNorm", shape(0, {}), "x is of shape []; allowed is [...,D]"},
      {"FusedSkipLayerNorm", shape(1, {5, 2, 32}), "skip is of shape [5,2,32]; allowed is [2,5,32]"},
      {"FusedSkipLayerNorm", shape(1, {10, 32}), "skip is of shape [10,32]; allowed is [2,5,32]"},
      {"FusedSkipLayerNorm", shape(2, {33}), "gamma is of shape [33]; allowed is [32]"},
      {"FusedBiasGelu", count(1), "1 inputs came; allowed are 2"},
      {"FusedBiasGelu", shape(1, {1}), "bias is of shape [1]; allowed is [33]"},
  };
}

int32_t get_output_shapes(nvinfer1::IPluginV3OneBuild& build, Descs const& descs) {
  ExprBuilder builder;
  std::vector<nvinfer1::DimsExprs> inputs;
  for (PluginTensorDesc const& desc : descs) {
    nvinfer1::DimsExprs exprs{};
    for (int32_t axis = 0; axis < desc.dims.nbDims; ++axis) exprs.d[exprs.nbDims++] = builder.make(desc.dims.d[axis], true);
    inputs.push_back(exprs);
  }
  nvinfer1::DimsExprs output{};
  return build.getOutputShapes(inputs.data(), static_cast<int32_t>(inputs.size()), nullptr, 0, &output, 1, builder);
}

int32_t get_output_types(nvinfer1::IPluginV3OneBuild& build, Descs const& descs) {
  std::vector<DataType> types;
  for (PluginTensorDesc const& desc : descs) types.push_back(desc.type);
  DataType output{};
  return build.getOutputDataTypes(&output, 1, types.data(), static_cast<int32_t>(types.size()));
}

int32_t configure(nvinfer1::IPluginV3OneBuild& build, Descs const& descs, PluginTensorDesc const& output) {
  std::vector<nvinfer1::DynamicPluginTensorDesc> inputs;
  for (PluginTensorDesc const& desc : descs) inputs.push_back({desc, desc.dims, desc.dims, desc.dims});
  nvinfer1::DynamicPluginTensorDesc const dynamic_output{output, output.dims, output.dims, output.dims};
  return build.configurePlugin(inputs.data(), static_cast<int32_t>(inputs.size()), &dynamic_output, 1);
}

void run_input_refusal(Host const& host, Case const& c, InputRefusal const& refusal, bool is_of_types) {
  Fields fields(c.attributes);
  PluginPtr const plugin(create(host, c.op, fields));
  check(plugin != nullptr, c.op + ": createPlugin gives null");
  Descs descs = input_descs(c, 0, DataType::kHALF);
  PluginTensorDesc const output = output_desc(c, 0, DataType::kHALF);
  refusal.change(descs);
  auto const check_call = [&](char const* call, int32_t status) { check_refused(host, status != 0, c.op, call, refusal.message); };
  if (is_of_types) {
    check_call("getOutputDataTypes", get_output_types(build_of(*plugin), descs));
  } else {
    check_call("getOutputShapes", get_output_shapes(build_of(*plugin), descs));
  }
  check_call("configurePlugin", configure(build_of(*plugin), descs, output));
  check_call("onShapeChange", runtime_of(*plugin).onShapeChange(descs.data(), static_cast<int32_t>(descs.size()), &output, 1));
}

Case const& labelled(std::vector<Case> const& cases, std::string const& label) {
  return *std::find_if(cases.begin(), cases.end(), [&](Case const& c) { return c.label == label; });
}

// Fewer heads of keys and values than of queries are in no op's first case.
void run_kv_head_refusals(Host const& host, std::vector<Case> const& cases) {
  Case const& padded = labelled(cases, "one head of keys and values, a bias");
  run_input_refusal(host, padded, {"", shape(0, {2, 5, 216}), "qkv is of shape [2,5,216]; allowed is [B,S,120]"}, false);
  Case const& packed = labelled(cases, "two heads of keys and values");
  run_input_refusal(host, packed, {"", shape(0, {7, 192}), "qkv is of shape [7,192]; allowed is [T,128]"}, false);
}

// A bias is optional: it is in no op's first case.
void run_bias_refusals(Host const& host, std::vector<Case> const& cases) {
  Case const& c = labelled(cases, "a bias for all rows");
  run_input_refusal(host, c, {"", shape(2, {3, 3, 5, 5}), "bias is of shape [3,3,5,5]; allowed is [2 or 1,3,5,5]"}, false);
  run_input_refusal(host, c, {"", shape(2, {1, 1, 5, 5}), "bias is of shape [1,1,5,5]; allowed is [2 or 1,3,5,5]"}, false);
  run_input_refusal(host, c, {"", type(2, DataType::kFLOAT), "bias is FP32; allowed is FP16"}, true);
}

// Attributes as another version of the parser may hand them over.
void run_wide_fields(Host const& host, std::vector<Case> const& cases) {
  for (Case const& c : cases) {
    Fields fields(c.attributes, true);
    PluginPtr const plugin(create(host, c.op, fields));
    check(plugin != nullptr, c.op + ": createPlugin refuses INT64 fields or a text without NUL: " + host.log.take());
  }
}

// enqueue says which GPUs are too old for a type, and that it was called before onShapeChange.
void run_enqueue_refusals(Host const& host, std::vector<Case> const& cases) {
  Case const& c = first_of(cases, "FusedQkvAttention");
  Fields fields(c.attributes);
  PluginPtr const plugin(create(host, c.op, fields));
  nvinfer1::IPluginV3OneRuntime& runtime = runtime_of(*plugin);
  Descs const descs = input_descs(c, 0, DataType::kBF16);
  PluginTensorDesc const output = output_desc(c, 0, DataType::kBF16);
  std::vector<char> memory(1 << 16);
  void const* const inputs[] = {memory.data(), memory.data()};
  void* const outputs[] = {memory.data()};
  auto const enqueue = [&] { return runtime.enqueue(descs.data(), &output, inputs, outputs, nullptr, nullptr); };
  check_refused(host, enqueue() != 0, c.op, "enqueue before onShapeChange", "0 inputs came; allowed are 2 or 3");
  check(runtime.onShapeChange(descs.data(), static_cast<int32_t>(descs.size()), &output, 1) == 0, "onShapeChange fails");
  host.set_compute_capability(75);
  check_refused(host, enqueue() != 0, c.op, "enqueue on sm_75", "this GPU is too old; BF16 needs compute capability 8.0");
  host.set_compute_capability(80);
  check(enqueue() == 0, c.op + ": enqueue fails on sm_80: " + host.log.take());
}

}  // namespace

void run_refusals(Host const& host, std::vector<Case> const& cases) {
  for (auto const& refusal : attribute_refusals()) run_attribute_refusal(host, cases, refusal);
  run_field_refusals(host);
  for (auto const& refusal : type_refusals()) run_input_refusal(host, first_of(cases, refusal.op), refusal, true);
  for (auto const& refusal : shape_refusals()) run_input_refusal(host, first_of(cases, refusal.op), refusal, false);
  run_bias_refusals(host, cases);
  run_kv_head_refusals(host, cases);
  run_wide_fields(host, cases);
  if (host.set_compute_capability != nullptr) run_enqueue_refusals(host, cases);
  std::printf("ok  wrong attributes, types and shapes are refused\n");
}

}  // namespace host
