// Pads, runs and takes apart.
#include "predictor/encoder.h"

#include <algorithm>

#include "predictor/batches.h"
#include "trtbert/error.h"

namespace trtbert {
namespace {

constexpr size_t kMaxTokensCpu = 1024;   // of one batch, padding included
constexpr size_t kMaxTokensGpu = 16384;  // a GPU is kept busy by larger batches
constexpr size_t kMaxOutputValues = size_t{1} << 26;

bool is_cut(Manifest const& manifest) { return manifest.task != "question-answering"; }  // There, long contexts are cut into windows.

bool is_per_token(std::string const& task) {
  return task == "token-classification" || task == "question-answering" || task == "feature-extraction" || task == "fill-mask";
}

size_t max_tokens(Manifest const& manifest) {
  size_t const most = manifest.target == "cpu" ? kMaxTokensCpu : kMaxTokensGpu;
  size_t width = 1;
  for (TensorFacts const& output : manifest.outputs) {
    for (size_t axis = 2; is_per_token(manifest.task) && axis < output.shape.size(); ++axis) {
      width *= static_cast<size_t>(std::clamp<int64_t>(output.shape[axis], 1, kMaxOutputValues));
      width = std::min(width, kMaxOutputValues);
    }
  }
  return std::min(most, kMaxOutputValues / width);
}

int32_t value_of(std::string const& input, Token const& token) {
  return input == "input_ids" ? token.id : input == "token_type_ids" ? token.type_id : 1;
}

int32_t padding_of(std::string const& input, Manifest const& manifest) {
  return input == "input_ids" ? manifest.pad_token_id : input == "token_type_ids" ? manifest.pad_token_type_id : 0;
}

void check_inputs(Manifest const& manifest) {
  for (TensorFacts const& input : manifest.inputs) {
    if ((input.name != "input_ids" && input.name != "attention_mask" && input.name != "token_type_ids") || input.dtype != "int32") {
      throw Error(ErrorKind::kUnsupported, "The model takes " + input.name + " (" + input.dtype +
                                               "); supported are int32 input_ids, attention_mask and token_type_ids.");
    }
  }
}

// Values of one token of the output, or of its row.
size_t width_of(Output const& output, Batch const& batch, bool is_per_token) {
  std::vector<int64_t> const& shape = output.shape;
  size_t const num_axes = is_per_token ? 2 : 1;
  bool const is_right = shape.size() >= num_axes && shape[0] == static_cast<int64_t>(batch.num_rows) &&
                        (!is_per_token || shape[1] == static_cast<int64_t>(batch.length)) && !output.values.empty();
  if (!is_right) {
    throw Error(ErrorKind::kPackage,
                "The output " + output.name + " of the model is not of the shape that its task has. Compile the package again.");
  }
  return output.values.size() / batch.num_rows / (is_per_token ? batch.length : 1);
}

}  // namespace

Row const& output(Rows const& rows, std::string const& name) {
  auto const found = rows.find(name);
  if (found == rows.end()) {
    throw Error(ErrorKind::kPackage, "The model gives no output " + name + ", which its task needs. Compile the package again.");
  }
  return found->second;
}

Encoder::Encoder(Package const& package, std::optional<int> threads)
    : manifest_(package.manifest()),
      max_length_(longest_length(manifest_)),
      tokenizer_(Tokenizer::load(package.tokenizer_path(), is_cut(manifest_) ? std::optional(max_length_) : std::nullopt)),
      engine_(Engine::open(package, threads)),
      is_per_token_(is_per_token(manifest_.task)),
      max_tokens_(max_tokens(manifest_)) {
  check_inputs(manifest_);
}

std::vector<Encoding> Encoder::tokenize(std::vector<Text> const& texts) const {
  std::vector<Encoding> encodings;
  encodings.reserve(texts.size());
  for (Text const& text : texts) {
    encodings.push_back(text.pair ? tokenizer_.encode(text.text, *text.pair) : tokenizer_.encode(text.text));
  }
  return encodings;
}

void Encoder::run(std::vector<Encoding> const& encodings, std::function<void(size_t, Rows const&)> const& take) const {
  std::vector<size_t> lengths;
  for (Encoding const& encoding : encodings) {
    lengths.push_back(encoding.size());
  }
  for (Batch const& batch : plan_batches(lengths, manifest_.profiles, max_tokens_)) {
    std::vector<Output> const outputs = engine_->run(feeds(encodings, batch.indices, batch.length, batch.num_rows));
    for (size_t row = 0; row < batch.indices.size(); ++row) {
      Rows rows;
      for (Output const& output : outputs) {
        size_t const width = width_of(output, batch, is_per_token_);
        size_t const size = width * (is_per_token_ ? batch.length : 1);
        rows[output.name] = {output.values.data() + row * size, is_per_token_ ? lengths[batch.indices[row]] : 1, width};
      }
      take(batch.indices[row], rows);
    }
  }
}

// Padded on the right; with `num_rows` filled up with copies of the first row.
Feeds Encoder::feeds(std::vector<Encoding> const& encodings, std::vector<size_t> const& indices, size_t length, size_t num_rows) const {
  Feeds feeds{static_cast<int64_t>(num_rows), static_cast<int64_t>(length), {}};
  for (TensorFacts const& input : manifest_.inputs) {
    std::vector<int32_t> values(num_rows * length, padding_of(input.name, manifest_));
    for (size_t row = 0; row < num_rows; ++row) {
      Encoding const& encoding = encodings[indices[row < indices.size() ? row : 0]];
      std::transform(encoding.begin(), encoding.end(), values.begin() + static_cast<std::ptrdiff_t>(row * length),
                     [&](Token const& token) { return value_of(input.name, token); });
    }
    feeds.inputs.push_back({input.name, std::move(values)});
  }
  return feeds;
}

}  // namespace trtbert
