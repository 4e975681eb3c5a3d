// The runtime that the manifest names -> the backend for it.
#include "trtbert/engine.h"

#include "engine/backends.h"
#include "trtbert/error.h"

namespace trtbert {
namespace {

[[noreturn, maybe_unused]] void refuse_unbuilt(std::string const& runtime, std::string const& option) {
  throw Error(ErrorKind::kUnsupported, "The package runs on " + runtime + ", and this library was built without it. Build it with " +
                                           option + " (docs/cpp.md), or serve the package with the Python package: trtbert serve");
}

}  // namespace

std::unique_ptr<Engine> Engine::open(Package const& package, [[maybe_unused]] std::optional<int> threads) {
  std::string const& runtime = package.manifest().runtime;
  package.engine_path();  // A build kit has none, and says so.
  if (runtime == "openvino") {
#if defined(TRTBERT_WITH_OPENVINO)
    return open_openvino(package, threads);
#else
    refuse_unbuilt(runtime, "-DOpenVINO_DIR=...");
#endif
  }
  if (runtime == "tensorrt" || runtime == "tensorrt-rtx") {
#if defined(TRTBERT_WITH_TENSORRT)
    return open_tensorrt(package);
#else
    refuse_unbuilt(runtime, "-DTRTBERT_RUNNER_TENSORRT=ON");
#endif
  }
  throw Error(ErrorKind::kUnsupported,
              "The package runs on " + runtime +
                  ", which this library does not have: it has openvino, tensorrt and tensorrt-rtx. For a CPU compile "
                  "the model with --runtime openvino.");
}

}  // namespace trtbert
