// The logger that the plugins find, in the layout of TensorRT 10 or 11: it keeps what they say.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace host {

// The registry, the logger and its finder are laid out anew in 11.0; the headers that the host is built with may be of either.
class Log {
 public:
  explicit Log(int32_t tensorrt_major);
  ~Log();

  // An nvinfer1::ILoggerFinder.
  void* finder() const;

  // What came since the last call.
  std::string take();

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace host
