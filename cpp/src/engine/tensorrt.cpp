// TensorRT, or TensorRT-RTX where its headers are given: one engine with one execution context on the current CUDA device.
#include <NvInferRuntime.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <mutex>
#include <sstream>

#include "engine/backends.h"
#include "engine/cuda.h"
#include "engine/plugins.h"
#include "trtbert/error.h"

namespace trtbert {
namespace {

#if defined(TRT_MAJOR_RTX)
constexpr char kRuntime[] = "tensorrt-rtx";
constexpr char kLibrary[] = "libtensorrt_rtx.so";
#else
constexpr char kRuntime[] = "tensorrt";
constexpr char kLibrary[] = "libnvinfer.so";
#endif

class Log final : public nvinfer1::ILogger {
  void log(Severity severity, char const* message) noexcept override {
    if (severity <= Severity::kWARNING) {
      std::fprintf(stderr, "%s: %s\n", kRuntime, message);
    }
  }
};

std::string version_text(int32_t version) {
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." + std::to_string(version % 100);
}

std::string first_three(std::string const& version) {
  std::istringstream parts(version);
  std::string kept, part;
  for (int i = 0; i < 3 && std::getline(parts, part, '.'); ++i) {
    kept += (i == 0 ? "" : ".") + part;
  }
  return kept;
}

// A plan fits no other TensorRT than the one that built it.
void check_version(Manifest const& manifest, std::string const& installed) {
  auto const built = manifest.versions.find(manifest.runtime);
  if (built == manifest.versions.end() || first_three(built->second) != installed) {
    throw Error(ErrorKind::kUnsupported,
                "The engine was built with " + manifest.runtime + " " +
                    (built == manifest.versions.end() ? "of no known version" : built->second) + ", and " + installed +
                    " is installed; an engine runs only with the version that built it. Install that one, or compile "
                    "the package again here.");
  }
}

// "7.5", "75" or "sm75".
std::string capability_text(std::string const& text) {
  std::string digits;
  for (char const c : text) {
    digits += c >= '0' && c <= '9' ? std::string(1, c) : "";
  }
  return "sm" + digits;
}

void check_device(Manifest const& manifest, std::string const& present) {
  std::string const wanted = capability_text(manifest.compute_capability.value_or(manifest.target));
  if (wanted != present) {
    throw Error(ErrorKind::kUnsupported,
                "The engine was built for " + wanted + ", and this GPU is " + present + ". Compile again with --target " + present + ".");
  }
}

std::vector<char> read(std::filesystem::path const& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

std::vector<std::string> library_names() { return {std::string(kLibrary) + "." + std::to_string(NV_TENSORRT_MAJOR), kLibrary}; }

bool is_within(nvinfer1::Dims const& shape, nvinfer1::Dims const& smallest, nvinfer1::Dims const& largest) {
  bool is_within = shape.nbDims == smallest.nbDims;
  for (int32_t i = 0; is_within && i < shape.nbDims; ++i) {
    is_within = smallest.d[i] <= shape.d[i] && shape.d[i] <= largest.d[i];
  }
  return is_within;
}

class TensorRtEngine final : public Engine {
 public:
  explicit TensorRtEngine(Package const& package) : library_(library_names(), kRuntime) {
    check_version(package.manifest(), version_text(library_.function<int32_t()>("getInferLibVersion")()));
    check_device(package.manifest(), device_.compute_capability());
    auto* const create = library_.function<void*(void*, int32_t)>("createInferRuntime_INTERNAL");
    runtime_.reset(static_cast<nvinfer1::IRuntime*>(create(&log_, NV_TENSORRT_VERSION)));
    if (runtime_ == nullptr) {
      throw Error(ErrorKind::kMissingRuntime, std::string(kRuntime) + " cannot be started; its message is on stderr.");
    }
    if (package.manifest().plugins) {
      std::string const plugins = checked_plugins(package).string();
      if (runtime_->getPluginRegistry().loadLibrary(plugins.c_str()) == nullptr) {
        throw Error(ErrorKind::kPackage, "TensorRT refused the plugin library " + plugins + "; its message is on stderr.");
      }
    }
    std::vector<char> const plan = read(package.engine_path());
    engine_.reset(runtime_->deserializeCudaEngine(plan.data(), plan.size()));
    context_.reset(engine_ == nullptr ? nullptr : engine_->createExecutionContext());
    if (context_ == nullptr) {
      throw Error(ErrorKind::kPackage, std::string(kRuntime) + " refused the engine " + package.engine_path().string() +
                                           "; its message is on stderr. Compile the package again.");
    }
  }

  std::vector<Output> run(Feeds const& feeds) override {
    std::lock_guard<std::mutex> const lock(mutex_);
    device_.use();
    nvinfer1::Dims const shape = nvinfer1::Dims2(feeds.rows, feeds.length);
    choose_profile(feeds, shape);
    for (Feed const& feed : feeds.inputs) {
      size_t const size = feed.values.size() * sizeof(int32_t);
      void* const address = device_.buffer(feed.name, size);
      device_.upload(address, feed.values.data(), size);
      check(context_->setInputShape(feed.name.c_str(), shape) && context_->setTensorAddress(feed.name.c_str(), address));
    }
    std::vector<Output> outputs = make_outputs();
    check(context_->enqueueV3(device_.stream()));
    for (Output& output : outputs) {
      size_t const size = output.values.size() * sizeof(float);
      device_.download(output.values.data(), device_.buffer(output.name, size), size);
    }
    device_.wait();
    return outputs;
  }

 private:
  static void check(bool is_done) {
    if (!is_done) {
      throw std::runtime_error("TensorRT could not run the inference; its message is on stderr");
    }
  }

  // The first profile whose ranges hold the shape.
  void choose_profile(Feeds const& feeds, nvinfer1::Dims const& shape) {
    using Selector = nvinfer1::OptProfileSelector;
    for (int32_t profile = 0; profile < engine_->getNbOptimizationProfiles(); ++profile) {
      bool is_fitting = true;
      for (Feed const& feed : feeds.inputs) {
        is_fitting = is_fitting && is_within(shape, engine_->getProfileShape(feed.name.c_str(), profile, Selector::kMIN),
                                             engine_->getProfileShape(feed.name.c_str(), profile, Selector::kMAX));
      }
      if (is_fitting) {
        if (profile != context_->getOptimizationProfile()) {
          check(context_->setOptimizationProfileAsync(profile, device_.stream()));
        }
        return;
      }
    }
    throw Error(ErrorKind::kInput, "Inputs of " + std::to_string(feeds.rows) + " x " + std::to_string(feeds.length) +
                                       " tokens fit no optimisation profile of the engine.");
  }

  std::vector<Output> make_outputs() {
    std::vector<Output> outputs;
    for (int32_t i = 0; i < engine_->getNbIOTensors(); ++i) {
      char const* const name = engine_->getIOTensorName(i);
      if (engine_->getTensorIOMode(name) != nvinfer1::TensorIOMode::kOUTPUT) {
        continue;
      }
      if (engine_->getTensorDataType(name) != nvinfer1::DataType::kFLOAT) {
        throw Error(ErrorKind::kUnsupported,
                    std::string("The output ") + name + " of the engine is not float32. Compile the package again.");
      }
      nvinfer1::Dims const shape = context_->getTensorShape(name);
      Output output{name, {shape.d, shape.d + shape.nbDims}, {}};
      size_t size = 1;
      for (int64_t const axis : output.shape) {
        size *= static_cast<size_t>(axis);
      }
      output.values.resize(size);
      check(context_->setTensorAddress(name, device_.buffer(name, size * sizeof(float))));
      outputs.push_back(std::move(output));
    }
    return outputs;
  }

  // In this order: what is below uses what is above to its end.
  Log log_;
  SharedLibrary library_;
  Device device_;
  std::unique_ptr<nvinfer1::IRuntime> runtime_;
  std::unique_ptr<nvinfer1::ICudaEngine> engine_;
  std::unique_ptr<nvinfer1::IExecutionContext> context_;
  std::mutex mutex_;
};

}  // namespace

std::unique_ptr<Engine> open_tensorrt(Package const& package) {
  if (package.manifest().runtime != kRuntime) {
    throw Error(ErrorKind::kUnsupported, "The package runs on " + package.manifest().runtime + ", and this library was built for " +
                                             kRuntime + ". Build it with the headers of the other one (TENSORRT_INCLUDE_DIR).");
  }
  return std::make_unique<TensorRtEngine>(package);
}

}  // namespace trtbert
