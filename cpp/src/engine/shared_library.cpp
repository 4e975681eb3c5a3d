// By dlopen.
#include "engine/shared_library.h"

#include <dlfcn.h>

#include "trtbert/error.h"

namespace trtbert {

SharedLibrary::SharedLibrary(std::vector<std::string> const& names, std::string const& what) : what_(what) {
  std::string tried;
  for (std::string const& name : names) {
    handle_ = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle_ != nullptr) {
      return;
    }
    tried += (tried.empty() ? "" : ", ") + name;
  }
  throw Error(ErrorKind::kMissingRuntime, "The package needs " + what + ", which cannot be loaded: tried " + tried +
                                              ". Install it, and set LD_LIBRARY_PATH to where it lies.");
}

void* SharedLibrary::symbol(char const* name) const {
  void* const found = dlsym(handle_, name);
  if (found == nullptr) {
    throw Error(ErrorKind::kMissingRuntime, what_ + " is of another version: it has no " + name + ".");
  }
  return found;
}

}  // namespace trtbert
