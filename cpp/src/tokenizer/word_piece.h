// The "model" of a tokenizer.json: a word -> the longest pieces of the vocabulary, from its beginning on.
#pragma once

#include <string_view>
#include <vector>

#include "json/fields.h"
#include "tokenizer/trie.h"
#include "tokenizer/vocabulary.h"

namespace trtbert {

class WordPiece {
 public:
  // Throws Error (kUnsupported) for another kind of model.
  explicit WordPiece(Field const& model);

  struct Piece {
    int32_t index;  // for id and text
    size_t begin;   // in the word, in bytes
    size_t end;
  };
  // Appends the pieces of a word: one unknown token for a word that the vocabulary does not cover.
  void tokenize(std::string_view word, std::vector<Piece>& pieces) const;

  int32_t id(Piece const& piece) const { return tokens_[static_cast<size_t>(piece.index)].id; }
  std::string const& text(Piece const& piece) const { return tokens_[static_cast<size_t>(piece.index)].text; }
  int32_t unknown_id() const { return tokens_[static_cast<size_t>(unknown_)].id; }
  bool has_prefix() const { return !prefix_.empty(); }
  Vocabulary const& vocabulary() const { return vocabulary_; }

 private:
  struct Entry {
    int32_t id;
    std::string text;
  };

  std::string prefix_;
  size_t max_characters_;
  Vocabulary vocabulary_;
  std::vector<Entry> tokens_;
  int32_t unknown_ = Trie::kNone;
  Trie trie_;
  int32_t continued_;  // the node of the trie behind the prefix
};

}  // namespace trtbert
