// The registry's class lost its IPluginV2 members in 11.0. Both layouts are written down here, so that a host that is built with the
// headers of one major drives the registry of either.
#include "registry.h"

#include <dlfcn.h>

#include <cstring>

#include "check.h"

namespace host {

using nvinfer1::IPluginCreatorInterface;

// The virtual members in the order of NvInferRuntimeCommon.h; those that the host does not call are only named. In no unnamed
// namespace: there the compiler would know that nothing derives from them, and call them as the pure functions that they are.
struct Registry11 {
  virtual ~Registry11() = default;
  virtual void setErrorRecorder() = 0;
  virtual void getErrorRecorder() = 0;
  virtual void isParentSearchEnabled() = 0;
  virtual void setParentSearchEnabled() = 0;
  virtual void* loadLibrary(char const* path) = 0;
  virtual void deregisterLibrary(void* handle) = 0;
  virtual void registerCreator() = 0;
  virtual void getAllCreators() = 0;
  virtual IPluginCreatorInterface* getCreator(char const* name, char const* version, char const* plugin_namespace) = 0;
};

struct Registry10 {
  virtual void registerCreatorV1() = 0;
  virtual void getPluginCreatorList() = 0;
  virtual void getPluginCreator() = 0;
  virtual ~Registry10() = default;
  virtual void setErrorRecorder() = 0;
  virtual void getErrorRecorder() = 0;
  virtual void deregisterCreatorV1() = 0;
  virtual void isParentSearchEnabled() = 0;
  virtual void setParentSearchEnabled() = 0;
  virtual void* loadLibrary(char const* path) = 0;
  virtual void deregisterLibrary(void* handle) = 0;
  virtual void registerCreator() = 0;
  virtual void getAllCreators() = 0;
  virtual IPluginCreatorInterface* getCreator(char const* name, char const* version, char const* plugin_namespace) = 0;
};

namespace {

template <class Function>
Function symbol(void* library, char const* name) {
  void* const address = dlsym(library, name);
  check(address != nullptr, std::string("the lean runtime has no ") + name);
  return reinterpret_cast<Function>(address);
}

// 10.16.1 is 101601; versions before 10 had two digits less.
int32_t major_of(int32_t version) { return version / 10000; }

}  // namespace

Registry::Registry(std::string const& lean) {
  void* const library = dlopen(lean.c_str(), RTLD_NOW | RTLD_GLOBAL);
  check(library != nullptr, library == nullptr ? dlerror() : "");
  major_ = major_of(symbol<int32_t (*)()>(library, "getInferLibVersion")());
  check(major_ == 10 || major_ == 11, lean + " is of TensorRT " + std::to_string(major_) + "; the host knows the registries of 10 and 11");
  registry_ = symbol<void* (*)()>(library, "getPluginRegistry")();
}

void Registry::load(std::string const& library) {
  void* const handle = major_ == 10 ? static_cast<Registry10*>(registry_)->loadLibrary(library.c_str())
                                    : static_cast<Registry11*>(registry_)->loadLibrary(library.c_str());
  check(handle != nullptr, "the registry does not load " + library);
}

nvinfer1::IPluginCreatorV3One* Registry::creator(char const* name, char const* version, char const* plugin_namespace) {
  IPluginCreatorInterface* const creator = major_ == 10 ? static_cast<Registry10*>(registry_)->getCreator(name, version, plugin_namespace)
                                                        : static_cast<Registry11*>(registry_)->getCreator(name, version, plugin_namespace);
  check(creator != nullptr, std::string("the registry has no creator for ") + name);
  nvinfer1::InterfaceInfo const info = creator->getInterfaceInfo();
  check(std::strcmp(info.kind, "PLUGIN CREATOR_V3ONE") == 0 && info.major == 1,
        std::string(name) + "'s creator is a " + info.kind + " " + std::to_string(info.major));
  return static_cast<nvinfer1::IPluginCreatorV3One*>(creator);
}

}  // namespace host
