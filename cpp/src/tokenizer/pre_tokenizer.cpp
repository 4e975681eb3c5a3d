// BERT's pre-tokeniser, by a table of the characters of nearly every text.
#include "tokenizer/pre_tokenizer.h"

#include <vector>

#include "text/unicode.h"
#include "text/utf8.h"

namespace trtbert {
namespace {

enum class Kind : char { kLetter, kSpace, kPunctuation };

Kind compute_kind(char32_t character) {
  return unicode::is_white_space(character) ? Kind::kSpace : unicode::is_punctuation(character) ? Kind::kPunctuation : Kind::kLetter;
}

constexpr char32_t kTableSize = 0x10000;

Kind kind_of(char32_t character) {
  static std::vector<Kind> const kKinds = [] {
    std::vector<Kind> kinds(kTableSize);
    for (char32_t c = 0; c < kTableSize; ++c) {
      kinds[c] = compute_kind(c);
    }
    return kinds;
  }();
  return character < kTableSize ? kKinds[character] : compute_kind(character);
}

}  // namespace

void check_pre_tokenizer(Field const& pre_tokenizer) {
  if (std::string const type = pre_tokenizer.is_null() ? "null" : pre_tokenizer["type"].text(); type != "BertPreTokenizer") {
    pre_tokenizer.refuse("the pre-tokenizer " + type + " is not supported here, only BertPreTokenizer is. Use the Python package");
  }
}

bool WordReader::next(size_t& begin, size_t& end) {
  Kind kind = Kind::kSpace;
  while (kind == Kind::kSpace) {
    if (place_ == text_.size()) {
      return false;
    }
    begin = place_;
    kind = kind_of(next_character(text_, place_));
  }
  end = place_;
  while (kind == Kind::kLetter && place_ < text_.size()) {
    kind = kind_of(next_character(text_, place_));
    if (kind == Kind::kLetter) {
      end = place_;
    }
  }
  place_ = end;
  return true;
}

}  // namespace trtbert
