// Refusals, and where they are told: to TensorRT's logger once the registry has given us its finder, to stderr before.
#pragma once

#include <exception>
#include <stdexcept>
#include <string>

namespace trtbert {

// What a caller got wrong. The text says what was wrong, what came and what is allowed.
struct Refusal : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// An nvinfer1::ILoggerFinder of the TensorRT that loads the library, whose headers need not be those that it was built with.
void set_logger_finder(void* finder) noexcept;

void log_error(std::string const& who, char const* message) noexcept;

// Returns what action returns. No exception may leave a TensorRT callback: one is logged, and `failed` returned in its place.
template <class Result, class Action>
Result guarded(std::string const& who, Result failed, Action const& action) noexcept {
  try {
    return action();
  } catch (std::exception const& error) {
    log_error(who, error.what());
  } catch (...) {
    log_error(who, "an unknown exception was thrown");
  }
  return failed;
}

}  // namespace trtbert
