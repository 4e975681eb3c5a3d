// Opens TensorRT and then a plugin library, both as Triton does, and prints the plugins that are registered afterwards.
#include <NvInferRuntime.h>
#include <dlfcn.h>

#include <cstdio>
#include <initializer_list>

int main(int, char** argv) {
  void* tensorrt = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  if (tensorrt == nullptr || dlopen(argv[2], RTLD_NOW | RTLD_LOCAL) == nullptr) {
    std::fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  auto registry = reinterpret_cast<nvinfer1::IPluginRegistry* (*)()>(dlsym(tensorrt, "getPluginRegistry"))();
  for (char const* name : {"FusedBiasGelu", "FusedEmbedLayerNorm", "FusedPackedQkvAttention", "FusedQkvAttention", "FusedSkipLayerNorm"}) {
    if (registry->getCreator(name, "1", "") != nullptr) std::printf("%s\n", name);
  }
  return 0;
}
