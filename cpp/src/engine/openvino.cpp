// OpenVINO on the CPU: one compiled model with one inference request, set up as in the Python package.
#include <algorithm>
#include <mutex>
#include <openvino/openvino.hpp>

#include "engine/backends.h"
#include "trtbert/error.h"

namespace trtbert {
namespace {

// The last line of what OpenVINO says: those before name the places in its source.
std::string reason(std::exception const& error) {
  std::string text = error.what();
  while (!text.empty() && text.back() == '\n') {
    text.pop_back();
  }
  return text.substr(text.rfind('\n') + 1);
}

ov::AnyMap config(std::optional<int> threads) {
  ov::AnyMap config{
      ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY),
      // By default it computes in BF16 where the CPU has it: the answers would not be those that were verified.
      ov::hint::inference_precision(ov::element::f32),
      // Pinned, the threads of every process begin at core 0.
      ov::hint::enable_cpu_pinning(false),
      // It keeps what it prepares for each shape, and by default for so many that memory grows for hours.
      {"CPU_RUNTIME_CACHE_CAPACITY", 500},
  };
  if (threads) {
    config.insert(ov::inference_num_threads(*threads));
  }
  return config;
}

class OpenVinoEngine final : public Engine {
 public:
  OpenVinoEngine(Package const& package, std::optional<int> threads) {
    std::string const path = package.engine_path().string();
    try {
      std::shared_ptr<ov::Model> const model = core_.read_model(path);
      // The model's names: where a Cast there does nothing, an input of what was compiled has the name of its result too.
      for (auto const& port : model->inputs()) {
        inputs_.push_back(name_of(port, ov::element::i32));
      }
      for (auto const& port : model->outputs()) {
        outputs_.push_back(name_of(port, ov::element::f32));
      }
      request_ = core_.compile_model(model, "CPU", config(threads)).create_infer_request();
    } catch (ov::Exception const& error) {
      throw Error(ErrorKind::kPackage, "OpenVINO cannot load " + path + ": " + reason(error));
    }
  }

  std::vector<Output> run(Feeds const& feeds) override {
    std::lock_guard<std::mutex> const lock(mutex_);
    for (size_t i = 0; i < inputs_.size(); ++i) {
      std::vector<int32_t> const& values = find(feeds, inputs_[i]).values;
      ov::Shape const shape{static_cast<size_t>(feeds.rows), static_cast<size_t>(feeds.length)};
      // It only reads them, although it asks for a pointer to what may be written.
      request_.set_input_tensor(i, ov::Tensor(ov::element::i32, shape, const_cast<int32_t*>(values.data())));
    }
    request_.infer();
    std::vector<Output> results;
    for (size_t i = 0; i < outputs_.size(); ++i) {
      ov::Tensor const tensor = request_.get_output_tensor(i);
      ov::Shape const shape = tensor.get_shape();
      float const* const values = tensor.data<float>();
      results.push_back({outputs_[i], {shape.begin(), shape.end()}, {values, values + tensor.get_size()}});
    }
    return results;
  }

 private:
  static std::string name_of(ov::Output<ov::Node> const& port, ov::element::Type type) {
    std::string name = port.get_any_name();
    if (port.get_element_type() != type) {
      throw Error(ErrorKind::kUnsupported, name + " of the model is " + port.get_element_type().to_string() + "; supported is " +
                                               type.to_string() + ". Compile the package again.");
    }
    return name;
  }

  static Feed const& find(Feeds const& feeds, std::string const& name) {
    auto const feed = std::find_if(feeds.inputs.begin(), feeds.inputs.end(), [&](Feed const& f) { return f.name == name; });
    if (feed == feeds.inputs.end() || feed->values.size() != static_cast<size_t>(feeds.rows * feeds.length)) {
      throw Error(ErrorKind::kInput, "The model takes " + name + " as rows x length values, which the feeds do not hold.");
    }
    return *feed;
  }

  ov::Core core_;
  ov::InferRequest request_;
  std::vector<std::string> inputs_;
  std::vector<std::string> outputs_;
  std::mutex mutex_;
};

}  // namespace

std::unique_ptr<Engine> open_openvino(Package const& package, std::optional<int> threads) {
  return std::make_unique<OpenVinoEngine>(package, threads);
}

}  // namespace trtbert
