// The "pre_tokenizer" of a tokenizer.json: normalised text -> words.
#pragma once

#include <functional>
#include <string_view>

#include "json/fields.h"

namespace trtbert {

// Throws Error (kUnsupported) for another one than BertPreTokenizer.
void check_pre_tokenizer(Field const& pre_tokenizer);

// Words stand between white space; a punctuation mark is a word of its own. Gives [begin, end) of each, in bytes.
class WordReader {
 public:
  explicit WordReader(std::string_view text) : text_(text) {}
  // False behind the last word.
  bool next(size_t& begin, size_t& end);

 private:
  std::string_view text_;
  size_t place_ = 0;
};

}  // namespace trtbert
