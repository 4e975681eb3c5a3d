// WordPiece as in BERT: greedy, the longest piece first.
#include "tokenizer/word_piece.h"

#include "text/utf8.h"

namespace trtbert {
namespace {

Field checked(Field const& model) {
  auto const type = model.find("type");
  if (std::string const name = type ? type->text() : "WordPiece"; name != "WordPiece") {
    model.refuse("a " + name + " tokenizer is not supported here, only WordPiece is (bert, distilbert, electra, mpnet...). " +
                 "Serve this package with the Python package: trtbert serve");
  }
  return model;
}

}  // namespace

WordPiece::WordPiece(Field const& model)
    : prefix_(checked(model)["continuing_subword_prefix"].text()),
      max_characters_(static_cast<size_t>(model["max_input_chars_per_word"].id())),
      trie_({}) {
  std::string const unknown = model["unk_token"].text();
  std::vector<std::pair<std::string, int32_t>> words;
  for (auto const& [token, field] : model["vocab"].members()) {
    int32_t const id = field.id();
    vocabulary_.add(token, id);
    auto const index = static_cast<int32_t>(tokens_.size());
    tokens_.push_back({id, token});
    if (token == unknown) {
      unknown_ = index;
    }
    if (!token.empty()) {
      words.emplace_back(token, index);
    }
  }
  if (unknown_ == Trie::kNone) {
    model.refuse("the vocabulary does not hold the unknown token \"" + unknown + "\"");
  }
  trie_ = Trie(std::move(words));
  continued_ = trie_.node_of(prefix_);
}

void WordPiece::tokenize(std::string_view word, std::vector<Piece>& pieces) const {
  size_t const before = pieces.size();
  bool is_known = word.size() <= max_characters_ || count_characters(word) <= max_characters_;
  for (size_t begin = 0; is_known && begin < word.size();) {
    int32_t const node = begin == 0 ? Trie::kRoot : continued_;
    Trie::Match const match = node < 0 ? Trie::Match{Trie::kNone, 0} : trie_.longest(word.substr(begin), node);
    is_known = match.value != Trie::kNone;
    pieces.push_back({match.value, begin, begin + match.size});
    begin += match.size;
  }
  if (!is_known) {
    pieces.resize(before);
    pieces.push_back({unknown_, 0, word.size()});
  }
}

}  // namespace trtbert
