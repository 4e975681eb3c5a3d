// What a caller can cause, as exceptions: each message says what was wrong, what came, what is allowed and what to do.
#pragma once

#include <stdexcept>
#include <string>

#include "trtbert/export.h"

namespace trtbert {

// The kinds are those of the Python package.
enum class ErrorKind {
  kInput,           // a text or a file that cannot be used as it is
  kConfig,          // a wrong option
  kPackage,         // a package that is incomplete, was altered, or is none
  kUnsupported,     // a package, a tokenizer or a call that this library does not support
  kMissingRuntime,  // a runtime or a GPU that the package needs is not there
};

class TRTBERT_RUNNER_API Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, std::string const& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

}  // namespace trtbert
