// question-answering: start and end probabilities of the tokens of each window -> the spans of the context that answer best.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "predictor/tasks.h"
#include "predictor/windows.h"
#include "text/lower.h"
#include "text/utf8.h"

namespace trtbert {
namespace {

constexpr float kMasked = -10000.0F;  // the logit of a token that cannot be in an answer

struct Found {
  size_t first;  // tokens of the part of the context
  size_t last;
  double score;
};

struct WindowAnswers {
  std::vector<Found> spans;  // best first
  double null_score = 0;     // of no answer
};

std::vector<double> softmax(Encoding const& encoding, float const* logits) {
  std::vector<float> masked(encoding.size());
  for (size_t i = 0; i < encoding.size(); ++i) {
    Token const& token = encoding[i];
    bool const is_cls = token.is_special() && token.id == encoding.front().id;
    masked[i] = token.sequence == 1 || is_cls ? logits[i] : kMasked;
  }
  double const largest = *std::max_element(masked.begin(), masked.end());
  std::vector<double> probabilities;
  double sum = 0;
  for (float const logit : masked) {
    probabilities.push_back(std::exp(logit - largest));
    sum += probabilities.back();
  }
  for (double& probability : probabilities) {
    probability /= sum;
  }
  return probabilities;
}

WindowAnswers best_spans(Encoding const& encoding, Rows const& rows, AnswerOptions const& options) {
  std::vector<double> const start = softmax(encoding, output(rows, "start_logits").values),
                            end = softmax(encoding, output(rows, "end_logits").values);
  auto const is_context = [](Token const& token) { return token.sequence == 1; };
  auto const first = static_cast<size_t>(std::find_if(encoding.begin(), encoding.end(), is_context) - encoding.begin());
  WindowAnswers answers{{}, start[0] * end[0]};
  for (size_t i = first; i < encoding.size(); ++i) {
    size_t const stop = std::min(encoding.size(), i + static_cast<size_t>(options.max_answer_length));
    for (size_t k = i; k < stop && is_context(encoding[i]); ++k) {
      double const score = is_context(encoding[k]) ? start[i] * end[k] : 0;
      if (score > 0) {
        answers.spans.push_back({i - first, k - first, score});
      }
    }
  }
  std::stable_sort(answers.spans.begin(), answers.spans.end(), [](Found const& a, Found const& b) { return a.score > b.score; });
  // More than are asked for: several may be one answer once they are aligned to words.
  auto const top_k = static_cast<size_t>(options.top_k);
  size_t const number = options.aligns_to_words ? top_k * 2 + 10 : top_k;
  answers.spans.resize(std::min(answers.spans.size(), number));
  return answers;
}

// Characters of the context from one token to another, out to whole words.
Span characters(Encoding const& part, Found const& found, bool aligns_to_words) {
  size_t first = found.first, last = found.last;
  while (aligns_to_words && first > 0 && part[first - 1].word == part[first].word) {
    --first;
  }
  while (aligns_to_words && last + 1 < part.size() && part[last + 1].word == part[last].word) {
    ++last;
  }
  return {part[first].offsets.begin, part[last].offsets.end};
}

// One answer for each text that was found, whatever its case; the scores of its spans are added.
class Collected {
 public:
  void add(std::string const& context, Span place, double score) {
    std::string const text(characters_of(context, place.begin, std::max(place.begin, place.end)));
    if (text.empty()) {  // A token of white space alone.
      return;
    }
    auto const [known, is_new] = places_.emplace(lower_case_of(text), answers_.size());
    if (is_new) {
      answers_.push_back({0, place.begin, place.end, text});
    }
    answers_[known->second].score += score;
  }
  std::vector<Answer>& answers() { return answers_; }

 private:
  std::map<std::string, size_t> places_;
  std::vector<Answer> answers_;
};

}  // namespace

std::vector<std::vector<Answer>> answers_of(Encoder const& encoder, std::vector<Text> const& questions, AnswerOptions const& options) {
  WindowSizes const sizes = window_sizes(encoder, options);
  std::vector<Window> windows;
  std::vector<size_t> first_window;
  std::vector<Encoding> encodings;
  for (Text const& question : questions) {
    first_window.push_back(windows.size());
    size_t const most = options.max_windows.value_or(std::numeric_limits<size_t>::max()) - windows.size();
    for (Window& window : windows_of(encoder.tokenizer(), question, sizes, most)) {
      encodings.push_back(window.encoding);
      windows.push_back(std::move(window));
    }
  }
  first_window.push_back(windows.size());
  std::vector<WindowAnswers> found(windows.size());
  encoder.run(encodings, [&](size_t index, Rows const& rows) { found[index] = best_spans(encodings[index], rows, options); });

  std::vector<std::vector<Answer>> results;
  for (size_t i = 0; i < questions.size(); ++i) {
    Collected collected;
    double null_score = 1;
    for (size_t w = first_window[i]; w < first_window[i + 1]; ++w) {
      null_score = std::min(null_score, found[w].null_score);
      for (Found const& span : found[w].spans) {
        collected.add(*questions[i].pair, characters(windows[w].part, span, options.aligns_to_words), span.score);
      }
    }
    std::vector<Answer>& answers = results.emplace_back(std::move(collected.answers()));
    if (options.handles_impossible) {
      answers.push_back({null_score, 0, 0, ""});
    }
    std::stable_sort(answers.begin(), answers.end(), [](Answer const& a, Answer const& b) { return a.score > b.score; });
    answers.resize(std::min(answers.size(), static_cast<size_t>(options.top_k)));
  }
  return results;
}

}  // namespace trtbert
