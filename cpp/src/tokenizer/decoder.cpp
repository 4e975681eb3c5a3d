// WordPiece: pieces that continue a word lose their prefix, English punctuation loses the space before it.
#include "tokenizer/decoder.h"

#include <utility>

namespace trtbert {
namespace {

// One after the other, as `tokenizers` does.
constexpr std::pair<char const*, char const*> kCleanUps[] = {
    {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},    {" n't", "n't"},
    {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
};

void replace_all(std::string& text, std::string const& from, std::string const& to) {
  for (size_t place = text.find(from); place != std::string::npos; place = text.find(from, place + to.size())) {
    text.replace(place, from.size(), to);
  }
}

}  // namespace

Decoder::Decoder(Field const& decoder) {
  if (decoder.is_null()) {
    return;
  }
  if (std::string const type = decoder["type"].text(); type != "WordPiece") {
    decoder.refuse("the decoder " + type + " is not supported here, only WordPiece is. Use the Python package");
  }
  joins_pieces_ = true;
  prefix_ = decoder["prefix"].text();
  cleans_up_ = decoder["cleanup"].boolean();
}

std::string Decoder::decode(std::vector<std::string> tokens) const {
  std::string text;
  for (size_t i = 0; i < tokens.size(); ++i) {
    std::string token = std::move(tokens[i]);
    if (i > 0) {
      bool const is_continued = joins_pieces_ && token.compare(0, prefix_.size(), prefix_) == 0;
      token = is_continued ? token.substr(prefix_.size()) : " " + token;
    }
    for (auto const& [from, to] : kCleanUps) {
      if (cleans_up_) {
        replace_all(token, from, to);
      }
    }
    text += token;
  }
  return text;
}

}  // namespace trtbert
