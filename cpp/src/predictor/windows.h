// A question and a long context -> windows that the model reads, which overlap.
#pragma once

#include <vector>

#include "predictor/encoder.h"

namespace trtbert {

// The question with a part of the context, as the model reads them, and that part alone.
struct Window {
  Encoding encoding;
  Encoding part;
};

struct WindowSizes {
  size_t length;
  size_t stride;  // tokens that two windows have in common
};

// Throws Error (kConfig) for a stride that leaves no room.
WindowSizes window_sizes(Encoder const& encoder, AnswerOptions const& options);
// A question that leaves no room for more than the stride is cut.
// Throws Error (kInput) where there are more than `most`.
std::vector<Window> windows_of(Tokenizer const& tokenizer, Text const& question, WindowSizes sizes, size_t most);

}  // namespace trtbert
