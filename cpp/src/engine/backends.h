// The runtimes that this library can be built with; each function is there where CMake found its runtime.
#pragma once

#include <memory>
#include <optional>

#include "trtbert/engine.h"

namespace trtbert {

std::unique_ptr<Engine> open_openvino(Package const& package, std::optional<int> threads);
std::unique_ptr<Engine> open_tensorrt(Package const& package);

}  // namespace trtbert
