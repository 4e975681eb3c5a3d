// For AddressSanitizer, which does not run where a library is loaded with RTLD_DEEPBIND, as OpenVINO's TBB loads one.
#include <dlfcn.h>

extern "C" __attribute__((visibility("default"))) void* dlopen(char const* file, int flags) {
  static auto* const next = reinterpret_cast<void* (*)(char const*, int)>(dlsym(RTLD_NEXT, "dlopen"));
  return next(file, flags & ~RTLD_DEEPBIND);
}
