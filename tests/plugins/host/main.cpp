// Drives every plugin of a library through its whole life in NVIDIA's registry, with no GPU.
//
// plugin_host [--fields] LIBTRTBERT_PLUGINS LIBNVINFER_LEAN
// --fields prints what the creators declare, as JSON, and does nothing else. Kernels are run where the library is the emulated one.
// Exits with 1 at the first check that fails, and names it.
#include <dlfcn.h>

#include <cstdio>
#include <cstring>

#include "cases.h"
#include "check.h"
#include "life_cycle.h"
#include "log.h"
#include "refusals.h"
#include "registry.h"

namespace {

using host::check;

constexpr char const* kOps[] = {"FusedEmbedLayerNorm", "FusedQkvAttention", "FusedPackedQkvAttention", "FusedSkipLayerNorm",
                                "FusedBiasGelu"};

char const* type_name(nvinfer1::PluginFieldType type) {
  switch (type) {
    case nvinfer1::PluginFieldType::kFLOAT32:
      return "FLOAT32";
    case nvinfer1::PluginFieldType::kINT32:
      return "INT32";
    case nvinfer1::PluginFieldType::kCHAR:
      return "CHAR";
    default:
      return "another type";
  }
}

void print_fields(host::Registry& registry) {
  char const* separator = "[";
  for (char const* op : kOps) {
    nvinfer1::IPluginCreatorV3One& creator = *registry.creator(op, "1", "");
    std::printf("%s\n  {\"name\": \"%s\", \"version\": \"%s\", \"namespace\": \"%s\", \"fields\": {", separator, creator.getPluginName(),
                creator.getPluginVersion(), creator.getPluginNamespace());
    nvinfer1::PluginFieldCollection const& fields = *creator.getFieldNames();
    for (int32_t i = 0; i < fields.nbFields; ++i) {
      std::printf("%s\"%s\": \"%s\"", i == 0 ? "" : ", ", fields.fields[i].name, type_name(fields.fields[i].type));
    }
    std::printf("}}");
    separator = ",";
  }
  std::printf("\n]\n");
}

// Exactly the ops that the host knows, and where the logger is left.
void check_library(void* library, host::Log& log) {
  auto const get_creators = reinterpret_cast<nvinfer1::IPluginCreatorInterface* const* (*)(int32_t&)>(dlsym(library, "getCreators"));
  auto const set_finder = reinterpret_cast<void (*)(void*)>(dlsym(library, "setLoggerFinder"));
  check(get_creators != nullptr && set_finder != nullptr, "the library does not export getCreators and setLoggerFinder");
  int32_t count = 0;
  get_creators(count);
  check(count == static_cast<int32_t>(std::size(kOps)), "the library has " + std::to_string(count) + " creators");
  set_finder(log.finder());
}

void run(char const* plugins, char const* lean, bool is_fields) {
  host::Registry registry(lean);
  registry.load(plugins);
  if (is_fields) {
    print_fields(registry);
    return;
  }
  host::Log log(registry.major());
  void* const library = dlopen(plugins, RTLD_NOW | RTLD_NOLOAD);
  check(library != nullptr, "the registry has loaded another library than this");
  check_library(library, log);

  auto const set_capability = reinterpret_cast<void (*)(int32_t)>(dlsym(library, "emulation_set_compute_capability"));
  host::Host const host{registry, log, set_capability};
  std::vector<host::Case> const cases = host::all_cases();
  for (host::Case const& c : cases) run_life_cycle(host, c);
  run_refusals(host, cases);
  std::printf("all held in the registry of TensorRT %d; kernels %s\n", registry.major(),
              set_capability != nullptr ? "ran on the CPU" : "did not run");
}

}  // namespace

int main(int argc, char** argv) {
  bool const is_fields = argc > 1 && std::strcmp(argv[1], "--fields") == 0;
  if (argc != (is_fields ? 4 : 3)) {
    std::fprintf(stderr, "plugin_host takes two paths: plugin_host [--fields] LIBTRTBERT_PLUGINS LIBNVINFER_LEAN\n");
    return 2;
  }
  try {
    run(argv[argc - 2], argv[argc - 1], is_fields);
  } catch (host::Failure const& failure) {
    std::fprintf(stderr, "FAILED  %s\n", failure.what());
    return 1;
  }
  return 0;
}
