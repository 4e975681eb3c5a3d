// As the Python package cuts contexts.
#include "predictor/windows.h"

#include <algorithm>

#include "trtbert/error.h"

namespace trtbert {
namespace {

void check_at_least(char const* name, std::optional<int> value, int least) {
  if (value && *value < least) {
    throw Error(ErrorKind::kConfig, std::string(name) + " must be a whole number of " + std::to_string(least) + " or more, got " +
                                        std::to_string(*value) + ".");
  }
}

}  // namespace

WindowSizes window_sizes(Encoder const& encoder, AnswerOptions const& options) {
  check_at_least("top_k", options.top_k, 1);
  check_at_least("max_answer_len", options.max_answer_length, 1);
  check_at_least("max_seq_len", options.window, 1);
  check_at_least("doc_stride", options.stride, 0);
  auto const length = std::min(static_cast<int64_t>(encoder.max_length()), int64_t{options.window.value_or(384)});
  int64_t stride = options.stride.value_or(static_cast<int>(std::min<int64_t>(length / 2, 128)));
  // Besides the special tokens: a token of the question, and one of the context.
  int64_t const room = length - static_cast<int64_t>(encoder.tokenizer().num_added_tokens(true)) - 2;
  if (stride > room) {
    if (options.stride || room < 0) {
      throw Error(ErrorKind::kConfig, "doc_stride " + std::to_string(stride) + " leaves no room in windows of " + std::to_string(length) +
                                          " tokens; choose at most " + std::to_string(std::max<int64_t>(room, 0)) + ".");
    }
    stride = room;
  }
  return {static_cast<size_t>(length), static_cast<size_t>(stride)};
}

std::vector<Window> windows_of(Tokenizer const& tokenizer, Text const& question, WindowSizes sizes, size_t most) {
  Encoding asked = tokenizer.encode_alone(question.text);
  Encoding const context = tokenizer.encode_alone(question.pair.value_or(""));
  size_t room = sizes.length - tokenizer.num_added_tokens(true);
  asked.resize(std::min(asked.size(), room - sizes.stride - 1));
  room -= asked.size();
  size_t const step = room - sizes.stride;
  size_t const number = 1 + (context.size() > room ? (context.size() - room + step - 1) / step : 0);
  if (number > most) {  // Said before they are made: with a long question each holds one new token.
    throw Error(ErrorKind::kInput, "A context of " + std::to_string(context.size()) + " tokens takes " + std::to_string(number) +
                                       " windows, and of those that are allowed at once " + std::to_string(most) +
                                       " are left. Shorten it, or the question.");
  }
  std::vector<Window> windows;
  for (size_t begin = 0, end = 0; windows.empty() || end < context.size(); begin += step) {
    end = std::min(begin + room, context.size());
    Encoding part(context.begin() + static_cast<std::ptrdiff_t>(begin), context.begin() + static_cast<std::ptrdiff_t>(end));
    Encoding encoding = tokenizer.join(asked, part);
    windows.push_back({std::move(encoding), std::move(part)});
  }
  return windows;
}

}  // namespace trtbert
