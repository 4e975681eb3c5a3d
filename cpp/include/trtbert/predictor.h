// A package folder -> an object that answers for texts, as the Python package does.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "trtbert/engine.h"
#include "trtbert/export.h"
#include "trtbert/package.h"
#include "trtbert/tokenizer.h"

namespace trtbert {

// UTF-8. With a pair the model reads both: a premise and a hypothesis, a query and a document, a question and its context.
struct Text {
  std::string text;
  std::optional<std::string> pair = std::nullopt;
};

struct Label {
  std::string label;
  float score;
};

// `begin` and `end` are characters of the text. With the aggregation "none" an entity is a token, and `index` is its number.
struct Entity {
  std::string label;
  double score;
  std::string word;
  size_t begin;
  size_t end;
  size_t index;
};

struct EntityOptions {
  std::string aggregation = "simple";  // none, simple, first, average or max
  std::vector<std::string> ignored_labels = {"O"};
};

// `begin` and `end` are characters of the context.
struct Answer {
  double score;
  size_t begin;
  size_t end;
  std::string answer;
};

struct AnswerOptions {
  int top_k = 1;
  int max_answer_length = 15;                // in tokens
  bool handles_impossible = false;           // an empty answer may be the best one
  std::optional<int> stride = std::nullopt;  // overlap of the windows of a long context, in tokens; default: 128, or half a window
  std::optional<int> window = std::nullopt;  // of question and context together; default: 384, or what the model takes
  bool aligns_to_words = true;
  std::optional<size_t> max_windows = std::nullopt;  // of all questions together; more are an Error (kInput)
};

// The last hidden state of the tokens of a text, special tokens included: [length, width], row by row.
struct Features {
  size_t length;
  size_t width;
  std::vector<float> values;
};

struct Fill {
  float score;
  int32_t token;
  std::string token_text;
  std::string sequence;  // the text with the token in the place of the mask
};

// Of the work that one request may make; none unless it is set.
struct RequestLimits {
  std::optional<size_t> max_windows = std::nullopt;  // as in AnswerOptions
  std::optional<size_t> max_words = std::nullopt;    // as in fill_masks
};

// May be used from several threads. Each function is that of one task, and throws Error (kUnsupported) for a package of another.
// A text that is too long is cut; a long context is read in windows. Throws Error (kInput) for texts that are not valid UTF-8.
class TRTBERT_RUNNER_API Predictor {
 public:
  static Predictor load(std::filesystem::path const& folder, std::optional<int> threads = std::nullopt);

  Predictor(Predictor&&) noexcept;
  Predictor& operator=(Predictor&&) noexcept;
  ~Predictor();

  Manifest const& manifest() const;
  Tokenizer const& tokenizer() const;

  // sentence-similarity: the embedding of each text.
  std::vector<std::vector<float>> embed(std::vector<Text> const& texts) const;
  // text-classification: the `top_k` best labels of each text, the best first; 0 for all.
  std::vector<std::vector<Label>> classify(std::vector<Text> const& texts, size_t top_k = 1) const;
  // token-classification.
  std::vector<std::vector<Entity>> entities(std::vector<Text> const& texts, EntityOptions const& options = {}) const;
  // question-answering: the best answers of each question and its context. None where nothing was found.
  std::vector<std::vector<Answer>> answer(std::vector<Text> const& questions, AnswerOptions const& options = {}) const;
  // text-ranking: the scores of each pair, one unless the model has several labels.
  std::vector<std::vector<float>> rank(std::vector<Text> const& pairs) const;
  // feature-extraction.
  std::vector<Features> features(std::vector<Text> const& texts) const;
  // fill-mask: for each mask of each text the `top_k` likeliest tokens. More than `max_words` of all texts together are an Error (kInput).
  std::vector<std::vector<std::vector<Fill>>> fill_masks(std::vector<Text> const& texts, size_t top_k = 5,
                                                         std::optional<size_t> max_words = std::nullopt) const;

  // Whatever the task: {"inputs": [...], "options": {...}} -> {"outputs": [...]}, in the words of Python's `predict`.
  // Throws Error (kInput or kConfig) that names what is wrong in the request.
  std::string predict_json(std::string_view request, RequestLimits const& limits = {}) const;

 private:
  struct Parts;
  explicit Predictor(std::unique_ptr<Parts const> parts);

  std::unique_ptr<Parts const> parts_;
};

}  // namespace trtbert
