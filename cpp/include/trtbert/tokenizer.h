// A tokenizer.json of the WordPiece kind -> the tokens of texts, equal to those of Hugging Face's `tokenizers`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "trtbert/export.h"

namespace trtbert {

// Characters (code points) [begin, end) of a text.
struct Span {
  size_t begin;
  size_t end;
};

struct Token {
  int32_t id;
  int32_t type_id;
  Span offsets;      // in the text that the token comes from
  int32_t word;      // number of its word in that text, -1 of a token that the tokenizer added
  int32_t sequence;  // 0 in the first text, 1 in the second, -1 of a token that the tokenizer added
  std::string text;

  bool is_special() const { return sequence < 0; }
};

// Nothing is padded, so the attention mask of an encoding is 1 at each token.
using Encoding = std::vector<Token>;

// Immutable: may be used from several threads.
class TRTBERT_RUNNER_API Tokenizer {
 public:
  // Texts are cut to `max_length` tokens, special tokens included; without it not at all.
  // Throws Error (kPackage) when the file cannot be read, (kUnsupported) with the name of the part that this library does not have.
  static Tokenizer load(std::filesystem::path const& file, std::optional<size_t> max_length = std::nullopt);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // Throws Error (kInput) for a text that is not valid UTF-8.
  Encoding encode(std::string_view text) const;
  Encoding encode(std::string_view text, std::string_view pair) const;

  // In two steps, for whoever cuts texts himself: the tokens of a text alone, and two such lists made one input.
  Encoding encode_alone(std::string_view text) const;
  Encoding join(Encoding first, Encoding second) const;

  size_t num_added_tokens(bool is_pair) const;
  std::optional<int32_t> id_of(std::string_view token) const;
  // Empty for an id that is no token's.
  std::string_view token_of(int32_t id) const;
  int32_t unknown_id() const;
  bool has_subword_prefix() const;

  // Text of tokens, such as "un" "##do" -> "undo", and of ids.
  std::string decode(std::vector<std::string> tokens) const;
  std::string decode(std::vector<int32_t> const& ids, bool skip_special_tokens) const;

 private:
  struct Parts;
  explicit Tokenizer(std::unique_ptr<Parts const> parts);

  std::unique_ptr<Parts const> parts_;
};

}  // namespace trtbert
