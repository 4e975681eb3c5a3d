// The "added_tokens" of a tokenizer.json: found in a text before anything else is done to it, or once it is normalised.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "json/fields.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/trie.h"
#include "tokenizer/vocabulary.h"

namespace trtbert {

// A part of a text, in bytes: an added token, or what stands between two.
struct Part {
  size_t begin;
  size_t end;
  std::optional<int32_t> token;  // the id
};

class AddedTokens {
 public:
  // Adds to `vocabulary`, that of the model, what is not in it.
  AddedTokens(Field const& added, Normalizer const& normalizer, Vocabulary& vocabulary);

  std::vector<Part> split_text(std::string_view text) const { return split(text, in_text_); }
  std::vector<Part> split_normalized(std::string_view text) const { return split(text, in_normalized_); }
  bool are_in_normalized() const { return !in_normalized_.tokens.empty(); }

  bool is_special(std::string_view token) const { return special_.count(std::string(token)) != 0; }

 private:
  struct AddedToken {
    int32_t id;
    std::string pattern;
    bool is_single_word;
    bool strips_left;
    bool strips_right;
  };
  struct Patterns {
    std::vector<AddedToken> tokens;
    std::vector<bool> first_bytes;
    std::optional<Trie> trie;
  };
  static void index(Patterns& patterns);
  static std::vector<Part> split(std::string_view text, Patterns const& patterns);

  Patterns in_text_;
  Patterns in_normalized_;
  std::unordered_set<std::string> special_;
};

}  // namespace trtbert
