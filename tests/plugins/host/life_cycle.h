// Drives one plugin through its whole life.
#pragma once

#include <NvInferRuntime.h>

#include <memory>

#include "cases.h"
#include "log.h"
#include "registry.h"

namespace host {

using PluginPtr = std::unique_ptr<nvinfer1::IPluginV3>;

struct Host {
  Registry& registry;
  Log& log;
  // Of the GPU that an emulated library stands for; its kernels take addresses of the CPU. Null for a library that needs a GPU.
  void (*set_compute_capability)(int32_t capability);
};

nvinfer1::IPluginV3OneBuild& build_of(nvinfer1::IPluginV3& plugin);
nvinfer1::IPluginV3OneRuntime& runtime_of(nvinfer1::IPluginV3& plugin);

// Of the inputs of a case, in one run, where floats are of type T.
std::vector<nvinfer1::PluginTensorDesc> input_descs(Case const& c, int run, nvinfer1::DataType float_type);
nvinfer1::PluginTensorDesc output_desc(Case const& c, int run, nvinfer1::DataType float_type);

// Throws Failure with the name of the check that failed; prints a line when all held.
void run_life_cycle(Host const& host, Case const& c);

}  // namespace host
