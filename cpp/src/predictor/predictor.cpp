// Checks that the task is the package's, and goes through the texts in chunks, which bound the memory of a long list.
#include "trtbert/predictor.h"

#include <algorithm>
#include <limits>

#include "predictor/json_call.h"
#include "predictor/tasks.h"
#include "trtbert/error.h"

namespace trtbert {
namespace {

constexpr size_t kChunk = 2048;  // texts that are tokenized and sorted together, as in the Python package

template <class Task>
auto in_chunks(std::vector<Text> const& texts, Task const& task) {
  decltype(task(texts)) results;
  for (size_t begin = 0; begin < texts.size(); begin += kChunk) {
    size_t const end = std::min(begin + kChunk, texts.size());
    for (auto& answer : task({texts.begin() + static_cast<std::ptrdiff_t>(begin), texts.begin() + static_cast<std::ptrdiff_t>(end)})) {
      results.push_back(std::move(answer));
    }
  }
  return results;
}

void check(Encoder const& encoder, std::string const& task, std::vector<Text> const& texts, bool needs_pair, bool takes_pair) {
  if (encoder.manifest().task != task) {
    throw Error(ErrorKind::kUnsupported, "This package is compiled for " + encoder.manifest().task + ", not for " + task +
                                             "; compile the model with --task " + task + ".");
  }
  for (size_t i = 0; i < texts.size(); ++i) {
    if (texts[i].pair ? !(needs_pair || takes_pair) : needs_pair) {
      throw Error(ErrorKind::kInput, "Text " + std::to_string(i) + " must be " + (needs_pair ? "a pair of texts" : "one text") + " for " +
                                         task + (needs_pair ? ", got one text." : ", got a pair."));
    }
  }
}

}  // namespace

struct Predictor::Parts {
  Encoder encoder;
};

Predictor Predictor::load(std::filesystem::path const& folder, std::optional<int> threads) {
  return Predictor(std::make_unique<Parts const>(Parts{Encoder(Package::open(folder), threads)}));
}

Predictor::Predictor(std::unique_ptr<Parts const> parts) : parts_(std::move(parts)) {}
Predictor::Predictor(Predictor&&) noexcept = default;
Predictor& Predictor::operator=(Predictor&&) noexcept = default;
Predictor::~Predictor() = default;

Manifest const& Predictor::manifest() const { return parts_->encoder.manifest(); }
Tokenizer const& Predictor::tokenizer() const { return parts_->encoder.tokenizer(); }

std::vector<std::vector<float>> Predictor::embed(std::vector<Text> const& texts) const {
  check(parts_->encoder, "sentence-similarity", texts, false, false);
  return in_chunks(texts, [&](std::vector<Text> const& chunk) { return vectors_of(parts_->encoder, chunk, "sentence_embedding"); });
}

std::vector<std::vector<Label>> Predictor::classify(std::vector<Text> const& texts, size_t top_k) const {
  check(parts_->encoder, "text-classification", texts, false, true);
  return in_chunks(texts, [&](std::vector<Text> const& chunk) { return labels_of(parts_->encoder, chunk, top_k); });
}

std::vector<std::vector<Entity>> Predictor::entities(std::vector<Text> const& texts, EntityOptions const& options) const {
  check(parts_->encoder, "token-classification", texts, false, false);
  return in_chunks(texts, [&](std::vector<Text> const& chunk) { return entities_of(parts_->encoder, chunk, options); });
}

std::vector<std::vector<Answer>> Predictor::answer(std::vector<Text> const& questions, AnswerOptions const& options) const {
  check(parts_->encoder, "question-answering", questions, true, true);
  return in_chunks(questions, [&](std::vector<Text> const& chunk) { return answers_of(parts_->encoder, chunk, options); });
}

std::vector<std::vector<float>> Predictor::rank(std::vector<Text> const& pairs) const {
  check(parts_->encoder, "text-ranking", pairs, true, true);
  return in_chunks(pairs, [&](std::vector<Text> const& chunk) { return vectors_of(parts_->encoder, chunk, "scores"); });
}

std::vector<Features> Predictor::features(std::vector<Text> const& texts) const {
  check(parts_->encoder, "feature-extraction", texts, false, false);
  return in_chunks(texts, [&](std::vector<Text> const& chunk) { return features_of(parts_->encoder, chunk); });
}

std::vector<std::vector<std::vector<Fill>>> Predictor::fill_masks(std::vector<Text> const& texts, size_t top_k,
                                                                  std::optional<size_t> max_words) const {
  check(parts_->encoder, "fill-mask", texts, false, false);
  size_t words_left = max_words.value_or(std::numeric_limits<size_t>::max());
  return in_chunks(texts, [&](std::vector<Text> const& chunk) { return fills_of(parts_->encoder, chunk, top_k, words_left); });
}

std::string Predictor::predict_json(std::string_view request, RequestLimits const& limits) const {
  return json_call(*this, request, limits);
}

}  // namespace trtbert
