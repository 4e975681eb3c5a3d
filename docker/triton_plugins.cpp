// Registers trtbert's plugins when Triton opens this library: --backend-config=tensorrt,plugins=.../libtrtbert_triton.so
//
// Triton only calls dlopen on a plugin library. Ours registers nothing then: it waits for TensorRT's registry to ask for its creators. So
// the registry of the TensorRT in this process is told to load it: the file that TRTBERT_PLUGINS names, or the one beside this library.
#include <NvInferRuntime.h>
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

// Another major version has another registry: this library fits the TensorRT whose headers it was built with.
#define TRTBERT_TEXT_(number) #number
#define TRTBERT_TEXT(number) TRTBERT_TEXT_(number)
constexpr char const kTensorRt[] = "libnvinfer.so." TRTBERT_TEXT(NV_TENSORRT_MAJOR);

std::string library() {
  if (char const* named = std::getenv("TRTBERT_PLUGINS"); named != nullptr && *named != '\0') return named;
  Dl_info info{};
  dladdr(&kTensorRt, &info);
  std::string const path = info.dli_fname;
  return path.substr(0, path.rfind('/') + 1) + "libtrtbert_plugins.so";
}

// The registry of the TensorRT that is loaded already; it is in no symbol scope that this library sees.
nvinfer1::IPluginRegistry* registry() {
  void* tensorrt = dlopen(kTensorRt, RTLD_LAZY | RTLD_NOLOAD);
  if (tensorrt == nullptr) return nullptr;
  auto get = reinterpret_cast<nvinfer1::IPluginRegistry* (*)()>(dlsym(tensorrt, "getPluginRegistry"));
  return get == nullptr ? nullptr : get();
}

__attribute__((constructor)) void load_plugins() {
  std::string const path = library();
  nvinfer1::IPluginRegistry* found = registry();
  if (found == nullptr) {
    std::fprintf(stderr, "libtrtbert_triton: no %s is loaded; give this library to --backend-config=tensorrt,plugins=\n", kTensorRt);
  } else if (found->loadLibrary(path.c_str()) == nullptr) {
    std::fprintf(stderr, "libtrtbert_triton: TensorRT did not load %s\n", path.c_str());
  }
}

}  // namespace
