// A logger and its finder with the virtual members in the order of NvInferRuntime.h, of TensorRT 10 and of 11.
#include "log.h"

#include <utility>

namespace host {
namespace {

struct Logger10 {
  explicit Logger10(std::string& text) : text(text) {}
  std::string& text;
  virtual void log(int32_t /*severity*/, char const* message) noexcept { text += message; }
};

struct Finder10 {
  explicit Finder10(Logger10& logger) : logger(logger) {}
  Logger10& logger;
  virtual Logger10* findLogger() { return &logger; }
};

struct Versioned11 {
  virtual int32_t getAPILanguage() const noexcept { return 0; }
  virtual void getInterfaceInfo() const noexcept {}
  virtual ~Versioned11() = default;
};

struct Logger11 : Versioned11 {
  explicit Logger11(std::string& text) : text(text) {}
  std::string& text;
  virtual void log(int32_t /*severity*/, char const* message) noexcept { text += message; }
};

struct Finder11 : Versioned11 {
  explicit Finder11(Logger11& logger) : logger(logger) {}
  Logger11& logger;
  virtual Logger11* findLogger() { return &logger; }
};

}  // namespace

struct Log::Parts {
  int32_t tensorrt_major;
  std::string text{};
  Logger10 logger_10{text};
  Finder10 finder_10{logger_10};
  Logger11 logger_11{text};
  Finder11 finder_11{logger_11};
};

Log::Log(int32_t tensorrt_major) : parts_(new Parts{tensorrt_major}) {}

Log::~Log() = default;

void* Log::finder() const {
  return parts_->tensorrt_major == 10 ? static_cast<void*>(&parts_->finder_10) : static_cast<void*>(&parts_->finder_11);
}

std::string Log::take() { return std::exchange(parts_->text, {}); }

}  // namespace host
