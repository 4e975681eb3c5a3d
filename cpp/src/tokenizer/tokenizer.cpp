// The steps of a tokenizer, one after the other: added tokens, normaliser, words, pieces, truncation, special tokens.
#include "trtbert/tokenizer.h"

#include <algorithm>
#include <limits>

#include "json/read.h"
#include "text/utf8.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/decoder.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/post_processor.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/truncation.h"
#include "tokenizer/word_piece.h"

namespace trtbert {
namespace {

constexpr size_t kAll = std::numeric_limits<size_t>::max();

// A word, or an added token: bytes of a part of the normalised text.
struct Split {
  Normalized const* text;
  size_t begin;
  size_t end;
  std::optional<int32_t> token;

  std::string_view bytes() const { return std::string_view(text->bytes).substr(begin, end - begin); }
  Span offsets(size_t from, size_t to) const { return {text->places[begin + from], text->places[begin + to - 1] + size_t{1}}; }
};

Field part(Json const& json, char const* name, std::string const& file) {
  static Json const kNull;
  auto const found = json.find(name);
  return {found == json.end() ? kNull : *found, file + ": " + name, ErrorKind::kUnsupported};
}

Json read(std::filesystem::path const& file) {
  Json json = read_json(file);
  if (!json.is_object() || !json.contains("model")) {
    throw Error(ErrorKind::kPackage, file.string() + " is no tokenizer.json: it holds no \"model\".");
  }
  return json;
}

Side side_of(Field const& truncation) {
  auto const direction = truncation.is_null() ? std::nullopt : truncation.find("direction");
  std::string const name = direction ? direction->text() : "Right";
  if (name != "Left" && name != "Right") {
    direction->refuse("it must be Left or Right, got " + name);
  }
  return name == "Left" ? Side::kLeft : Side::kRight;
}

}  // namespace

struct Tokenizer::Parts {
  Parts(Json const& json, std::string const& file, std::optional<size_t> max)
      : model(part(json, "model", file)),
        normalizer(part(json, "normalizer", file)),
        vocabulary(model.vocabulary()),
        added(part(json, "added_tokens", file), normalizer, vocabulary),
        post_processor(part(json, "post_processor", file)),
        decoder(part(json, "decoder", file)),
        side(side_of(part(json, "truncation", file))),
        max_length(max) {
    check_pre_tokenizer(part(json, "pre_tokenizer", file));
    if (max_length && *max_length < post_processor.num_added_tokens(true)) {
      throw Error(ErrorKind::kConfig, "max_length must be " + std::to_string(post_processor.num_added_tokens(true)) +
                                          " or more, which the special tokens of a pair take, got " + std::to_string(*max_length) + ".");
    }
  }

  Encoding tokenize(std::string_view text, int32_t sequence, size_t most) const;
  std::vector<Normalized> normalize(std::string_view text, std::vector<std::optional<int32_t>>& tokens) const;
  std::vector<Split> split(std::vector<Normalized> const& texts, std::vector<std::optional<int32_t>> const& tokens) const;
  void append(Split const& split, int32_t word, int32_t sequence, std::vector<WordPiece::Piece>& pieces, Encoding& encoding) const;
  size_t room(bool is_pair) const { return *max_length - post_processor.num_added_tokens(is_pair); }

  WordPiece model;  // first: what is said of another kind of tokenizer should be its kind
  Normalizer normalizer;
  Vocabulary vocabulary;
  AddedTokens added;
  PostProcessor post_processor;
  Decoder decoder;
  Side side;
  std::optional<size_t> max_length;
};

// The parts of a text, and which of them are added tokens.
std::vector<Normalized> Tokenizer::Parts::normalize(std::string_view text, std::vector<std::optional<int32_t>>& tokens) const {
  std::vector<Normalized> texts;
  uint32_t place = 0;
  std::vector<Part> const parts = added.split_text(text);
  for (Part const& part : parts) {
    std::string_view const bytes = text.substr(part.begin, part.end - part.begin);
    texts.push_back(part.token ? write_characters(read_characters(bytes, place)) : normalizer.normalize(bytes, place));
    tokens.push_back(part.token);
    place += parts.size() == 1 ? 0 : static_cast<uint32_t>(count_characters(bytes));
  }
  return texts;
}

std::vector<Split> Tokenizer::Parts::split(std::vector<Normalized> const& texts, std::vector<std::optional<int32_t>> const& tokens) const {
  std::vector<Split> splits;
  for (size_t i = 0; i < texts.size(); ++i) {
    Normalized const& text = texts[i];
    if (tokens[i]) {
      splits.push_back({&text, 0, text.bytes.size(), tokens[i]});
      continue;
    }
    std::vector<Part> const parts =
        added.are_in_normalized() ? added.split_normalized(text.bytes) : std::vector<Part>{{0, text.bytes.size(), std::nullopt}};
    for (Part const& part : parts) {
      if (part.token) {
        splits.push_back({&text, part.begin, part.end, part.token});
        continue;
      }
      WordReader words(std::string_view(text.bytes).substr(part.begin, part.end - part.begin));
      for (size_t begin = 0, end = 0; words.next(begin, end);) {
        splits.push_back({&text, part.begin + begin, part.begin + end, std::nullopt});
      }
    }
  }
  return splits;
}

void Tokenizer::Parts::append(Split const& split, int32_t word, int32_t sequence, std::vector<WordPiece::Piece>& pieces,
                              Encoding& encoding) const {
  if (split.token) {
    encoding.push_back({*split.token, sequence, split.offsets(0, split.end - split.begin), word, sequence, std::string(split.bytes())});
    return;
  }
  pieces.clear();
  model.tokenize(split.bytes(), pieces);
  for (WordPiece::Piece const& piece : pieces) {
    encoding.push_back({model.id(piece), sequence, split.offsets(piece.begin, piece.end), word, sequence, model.text(piece)});
  }
}

// The tokens of one text, without special tokens; words behind the first `most` tokens may be left out.
Encoding Tokenizer::Parts::tokenize(std::string_view text, int32_t sequence, size_t most) const {
  if (auto const place = find_invalid(text)) {
    throw Error(ErrorKind::kInput, "The text is not valid UTF-8: byte " + std::to_string(*place) + " is wrong. Texts are UTF-8.");
  }
  std::vector<std::optional<int32_t>> tokens;
  std::vector<Normalized> const texts = normalize(text, tokens);
  std::vector<Split> const splits = split(texts, tokens);
  std::vector<WordPiece::Piece> pieces;
  Encoding encoding;
  encoding.reserve(std::min(most, splits.size() + splits.size() / 4));
  for (size_t word = 0; word < splits.size() && encoding.size() < most; ++word) {
    append(splits[word], static_cast<int32_t>(word), sequence, pieces, encoding);
  }
  return encoding;
}

Tokenizer Tokenizer::load(std::filesystem::path const& file, std::optional<size_t> max_length) {
  return Tokenizer(std::make_unique<Parts const>(read(file), file.string(), max_length));
}

Tokenizer::Tokenizer(std::unique_ptr<Parts const> parts) : parts_(std::move(parts)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Encoding Tokenizer::encode(std::string_view text) const {
  size_t const room = parts_->max_length ? parts_->room(false) : kAll;
  Encoding encoding = parts_->tokenize(text, 0, parts_->side == Side::kRight ? room : kAll);
  cut(encoding, room, parts_->side);
  return parts_->post_processor.process(std::move(encoding));
}

Encoding Tokenizer::encode(std::string_view text, std::string_view pair) const {
  return join(parts_->tokenize(text, 0, kAll), parts_->tokenize(pair, 1, kAll));
}

Encoding Tokenizer::encode_alone(std::string_view text) const {
  Encoding encoding = parts_->tokenize(text, 0, kAll);
  cut(encoding, parts_->max_length.value_or(kAll), parts_->side);
  return parts_->post_processor.process_alone(std::move(encoding));
}

Encoding Tokenizer::join(Encoding first, Encoding second) const {
  if (parts_->max_length) {
    cut_pair(first, second, parts_->room(true), parts_->side);
  }
  return parts_->post_processor.process(std::move(first), std::move(second));
}

size_t Tokenizer::num_added_tokens(bool is_pair) const { return parts_->post_processor.num_added_tokens(is_pair); }
std::optional<int32_t> Tokenizer::id_of(std::string_view token) const { return parts_->vocabulary.id_of(token); }
std::string_view Tokenizer::token_of(int32_t id) const { return parts_->vocabulary.token_of(id); }
int32_t Tokenizer::unknown_id() const { return parts_->model.unknown_id(); }
bool Tokenizer::has_subword_prefix() const { return parts_->model.has_prefix(); }

std::string Tokenizer::decode(std::vector<std::string> tokens) const { return parts_->decoder.decode(std::move(tokens)); }

std::string Tokenizer::decode(std::vector<int32_t> const& ids, bool skip_special_tokens) const {
  std::vector<std::string> tokens;
  for (int32_t const id : ids) {
    std::string_view const token = parts_->vocabulary.token_of(id);
    if (!token.empty() && !(skip_special_tokens && parts_->added.is_special(token))) {
      tokens.emplace_back(token);
    }
  }
  return parts_->decoder.decode(std::move(tokens));
}

}  // namespace trtbert
