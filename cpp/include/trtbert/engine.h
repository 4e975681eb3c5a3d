// The model of a package, loaded by the runtime that it was compiled for.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "trtbert/export.h"
#include "trtbert/package.h"

namespace trtbert {

// An int32 input [rows, length], row by row.
struct Feed {
  std::string name;
  std::vector<int32_t> values;
};

struct Feeds {
  int64_t rows;
  int64_t length;
  std::vector<Feed> inputs;  // one for each input of the model
};

struct Output {
  std::string name;
  std::vector<int64_t> shape;  // [rows, ...] or [rows, length, ...]
  std::vector<float> values;
};

class TRTBERT_RUNNER_API Engine {
 public:
  // `threads` bounds the threads of one inference on a CPU; without it the runtime decides.
  // Throws Error: kMissingRuntime where the runtime or its GPU is not there, kUnsupported for a runtime that this library was built
  // without.
  static std::unique_ptr<Engine> open(Package const& package, std::optional<int> threads = std::nullopt);

  virtual ~Engine() = default;

  // Every output. May be called from several threads, which wait for each other: one inference has all the threads that it was given.
  virtual std::vector<Output> run(Feeds const& feeds) = 0;
};

}  // namespace trtbert
