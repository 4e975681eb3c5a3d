// Errors to the logger of the TensorRT that loaded us, 10 or 11, or to stderr.
#include "trt/log.h"

#include <dlfcn.h>

#include <atomic>
#include <cstdint>
#include <cstdio>

namespace trtbert {

// All other interfaces of plugins are the same in TensorRT 10 and 11, so that one library serves both; but these two got a base class
// in 11.0, and their member moved. Both layouts are written down here. They are in no unnamed namespace: there the compiler would know
// that nothing derives from them, and call the pure functions.
struct Logger10 {
  virtual void log(int32_t severity, char const* message) noexcept = 0;
};

struct LoggerFinder10 {
  virtual Logger10* findLogger() = 0;
};

struct Versioned11 {
  virtual void getAPILanguage() = 0;
  virtual void getInterfaceInfo() = 0;
  virtual ~Versioned11() = default;
};

struct Logger11 : Versioned11 {
  virtual void log(int32_t severity, char const* message) noexcept = 0;
};

struct LoggerFinder11 : Versioned11 {
  virtual Logger11* findLogger() = 0;
};

namespace {

constexpr int32_t kErrorSeverity = 1;

// Set while one thread loads the library, read by every thread that builds or runs an engine.
std::atomic<LoggerFinder10*> finder_10{nullptr};
std::atomic<LoggerFinder11*> finder_11{nullptr};

// Of the library that holds the code of `object`; 0 if it is none of TensorRT's.
int32_t tensorrt_major(void* object) {
  void* const vtable = *static_cast<void**>(object);
  Dl_info info{};
  if (dladdr(vtable, &info) == 0) {
    return 0;
  }
  void* const library = dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD);  // null for a program: dlsym then looks everywhere
  auto const version = reinterpret_cast<int32_t (*)()>(dlsym(library, "getInferLibVersion"));
  int32_t const major = version == nullptr ? 0 : version() / 10000;  // 10.16.1 is 101601
  if (library != nullptr) {
    dlclose(library);
  }
  return major;
}

template <class Finder>
bool log_through(Finder* finder, char const* line) {
  auto* const logger = finder == nullptr ? nullptr : finder->findLogger();
  if (logger != nullptr) {
    logger->log(kErrorSeverity, line);
  }
  return logger != nullptr;
}

}  // namespace

void set_logger_finder(void* finder) noexcept {
  int32_t const major = finder == nullptr ? 0 : tensorrt_major(finder);
  finder_10 = major == 10 ? static_cast<LoggerFinder10*>(finder) : nullptr;
  finder_11 = major == 11 ? static_cast<LoggerFinder11*>(finder) : nullptr;
}

void log_error(std::string const& who, char const* message) noexcept {
  try {
    std::string const line = who + ": " + message;
    if (!log_through(finder_10.load(), line.c_str()) && !log_through(finder_11.load(), line.c_str())) {
      std::fprintf(stderr, "%s\n", line.c_str());
    }
  } catch (...) {  // No memory for the line, or a finder that throws: the bare message is still worth having.
    std::fprintf(stderr, "%s\n", message);
  }
}

}  // namespace trtbert
