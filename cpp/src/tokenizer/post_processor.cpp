// Each kind of post-processor is a template: special tokens and texts in their order, each with a type id.
#include "tokenizer/post_processor.h"

#include <algorithm>

#include "text/unicode.h"
#include "text/utf8.h"

namespace trtbert {
namespace {

Token special_token(int32_t id, int32_t type_id, std::string text) { return {id, type_id, {0, 0}, -1, -1, std::move(text)}; }

// ["[SEP]", 102]
Encoding named_token(Field const& pair, int32_t type_id) {
  auto const items = pair.items();
  if (items.size() != 2) {
    pair.refuse("it must be a token and its id");
  }
  return {special_token(items[1].id(), type_id, items[0].text())};
}

// Spaces, and the letter that stands for one in byte-level tokenizers.
size_t count_leading_spaces(std::u32string const& characters, bool is_reversed) {
  constexpr char32_t kSpace = 0x120;
  auto const is_space = [](char32_t c) { return c == kSpace || unicode::is_white_space(c); };
  auto const count = [&](auto begin, auto end) { return static_cast<size_t>(std::find_if_not(begin, end, is_space) - begin); };
  return is_reversed ? count(characters.rbegin(), characters.rend()) : count(characters.begin(), characters.end());
}

}  // namespace

PostProcessor::PostProcessor(Field const& post_processor) {
  Piece const first{0, 0, {}}, second{1, 1, {}};
  std::string const type = post_processor.is_null() ? "null" : post_processor["type"].text();
  if (type == "null") {
    single_ = {first};
    pair_ = {first, second};
  } else if (type == "TemplateProcessing") {
    single_ = read_template(post_processor["single"], post_processor["special_tokens"]);
    pair_ = read_template(post_processor["pair"], post_processor["special_tokens"]);
  } else if (type == "BertProcessing") {
    auto const special = [&](char const* name, int32_t type_id) { return Piece{-1, type_id, named_token(post_processor[name], type_id)}; };
    single_ = {special("cls", 0), first, special("sep", 0)};
    pair_ = {special("cls", 0), first, special("sep", 0), second, special("sep", 1)};
  } else if (type == "RobertaProcessing") {
    Piece const cls{-1, 0, named_token(post_processor["cls"], 0)}, sep{-1, 0, named_token(post_processor["sep"], 0)};
    single_ = {cls, first, sep};
    pair_ = {cls, first, sep, sep, Piece{1, 0, {}}, sep};
    trims_offsets_ = post_processor["trim_offsets"].boolean();
    adds_prefix_space_ = post_processor["add_prefix_space"].boolean();
  } else {
    post_processor.refuse("the post-processor " + type +
                          " is not supported here; supported are TemplateProcessing, BertProcessing and RobertaProcessing. Use the Python "
                          "package for this one");
  }
}

PostProcessor::Template PostProcessor::read_template(Field const& pieces, Field const& special_tokens) {
  Template read;
  for (Field const& field : pieces.items()) {
    if (auto const sequence = field.find("Sequence")) {
      read.push_back({(*sequence)["id"].text() == "A" ? 0 : 1, (*sequence)["type_id"].id(), {}});
      continue;
    }
    Field const special = field["SpecialToken"];
    Piece piece{-1, special["type_id"].id(), {}};
    Field const token = special_tokens[special["id"].text().c_str()];
    auto const ids = token["ids"].items(), texts = token["tokens"].items();
    for (size_t i = 0; i < ids.size() && i < texts.size(); ++i) {
      piece.tokens.push_back(special_token(ids[i].id(), piece.type_id, texts[i].text()));
    }
    read.push_back(std::move(piece));
  }
  return read;
}

Encoding PostProcessor::process(Encoding text) const {
  trim_offsets(text);
  std::vector<Encoding> texts;
  texts.push_back(std::move(text));
  return fill(single_, std::move(texts));
}

Encoding PostProcessor::process(Encoding first, Encoding second) const {
  trim_offsets(first);
  trim_offsets(second);
  std::vector<Encoding> texts;
  texts.push_back(std::move(first));
  texts.push_back(std::move(second));
  return fill(pair_, std::move(texts));
}

Encoding PostProcessor::process_alone(Encoding text) const {
  trim_offsets(text);
  return text;
}

size_t PostProcessor::num_added_tokens(bool is_pair) const {
  size_t number = 0;
  for (Piece const& piece : is_pair ? pair_ : single_) {
    number += piece.tokens.size();
  }
  return number;
}

Encoding PostProcessor::fill(Template const& pieces, std::vector<Encoding> texts) {
  Encoding filled;
  for (Piece const& piece : pieces) {
    if (piece.sequence < 0) {
      filled.insert(filled.end(), piece.tokens.begin(), piece.tokens.end());
      continue;
    }
    if (static_cast<size_t>(piece.sequence) >= texts.size()) {
      throw Error(ErrorKind::kPackage, "The post-processor of the tokenizer puts a second text where there is one alone.");
    }
    for (Token& token : texts[static_cast<size_t>(piece.sequence)]) {
      token.type_id = piece.type_id;
      token.sequence = piece.sequence;
      filled.push_back(token);
    }
  }
  return filled;
}

// As byte-level tokenizers have it: the spaces of a token are not in its offsets.
void PostProcessor::trim_offsets(Encoding& text) const {
  for (size_t i = 0; trims_offsets_ && i < text.size(); ++i) {
    Token& token = text[i];
    std::u32string characters;
    for (size_t place = 0; place < token.text.size();) {
      characters += next_character(token.text, place);
    }
    size_t leading = count_leading_spaces(characters, false);
    size_t const trailing = count_leading_spaces(characters, true);
    if (leading == 1 && adds_prefix_space_ && (i == 0 || token.offsets.begin == 0)) {
      leading = 0;
    }
    token.offsets.begin = std::min(token.offsets.begin + leading, token.offsets.end);
    if (token.offsets.end >= trailing) {
      token.offsets.end = std::max(token.offsets.end - trailing, token.offsets.begin);
    }
  }
}

}  // namespace trtbert
