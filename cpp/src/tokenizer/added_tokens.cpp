// Of several added tokens that begin at a place the longest is taken, and the search goes on behind it.
#include "tokenizer/added_tokens.h"

#include <algorithm>

#include "text/unicode.h"
#include "text/utf8.h"

namespace trtbert {
namespace {

bool is_flag(Field const& token, char const* name) {
  auto const flag = token.find(name);
  return flag && flag->boolean();
}

// The place where the last character before `place` begins.
size_t previous(std::string_view text, size_t place) {
  do {
    --place;
  } while (place > 0 && is_continuation(text[place]));
  return place;
}

char32_t character_at(std::string_view text, size_t place) { return next_character(text, place); }

size_t begin_of_spaces(std::string_view text, size_t end) {
  while (end > 0 && unicode::is_white_space(character_at(text, previous(text, end)))) {
    end = previous(text, end);
  }
  return end;
}

size_t end_of_spaces(std::string_view text, size_t begin) {
  while (begin < text.size()) {
    size_t next = begin;
    if (!unicode::is_white_space(next_character(text, next))) {
      break;
    }
    begin = next;
  }
  return begin;
}

bool is_single_word(std::string_view text, size_t begin, size_t end) {
  bool const begins = begin == 0 || !unicode::is_word(character_at(text, previous(text, begin)));
  bool const ends = end == text.size() || !unicode::is_word(character_at(text, end));
  return begins && ends;
}

}  // namespace

AddedTokens::AddedTokens(Field const& added, Normalizer const& normalizer, Vocabulary& vocabulary) {
  auto next_id = static_cast<int32_t>(vocabulary.size());
  for (Field const& field : added.items()) {
    std::string const content = field["content"].text();
    if (content.empty()) {
      continue;
    }
    std::optional<int32_t> id = vocabulary.id_of(content);
    if (!id) {
      id = next_id++;
      vocabulary.add(content, *id);
    }
    if (is_flag(field, "special")) {
      special_.insert(content);
    }
    bool const is_normalized = is_flag(field, "normalized");
    std::string pattern = is_normalized ? normalizer.normalize(content, 0).bytes : content;
    if (pattern.empty()) {
      field.refuse("nothing is left of this added token once it is normalised");
    }
    auto& tokens = (is_normalized ? in_normalized_ : in_text_).tokens;
    tokens.push_back({*id, std::move(pattern), is_flag(field, "single_word"), is_flag(field, "lstrip"), is_flag(field, "rstrip")});
  }
  index(in_text_);
  index(in_normalized_);
}

void AddedTokens::index(Patterns& patterns) {
  std::vector<std::pair<std::string, int32_t>> words;
  std::unordered_set<std::string> seen;
  patterns.first_bytes.assign(256, false);
  for (size_t i = 0; i < patterns.tokens.size(); ++i) {
    std::string const& pattern = patterns.tokens[i].pattern;
    patterns.first_bytes[static_cast<unsigned char>(pattern[0])] = true;
    if (seen.insert(pattern).second) {
      words.emplace_back(pattern, static_cast<int32_t>(i));
    }
  }
  patterns.trie.emplace(std::move(words));
}

std::vector<Part> AddedTokens::split(std::string_view text, Patterns const& patterns) {
  std::vector<Part> parts;
  size_t done = 0;
  for (size_t i = 0; i < text.size();) {
    Trie::Match const match =
        patterns.first_bytes[static_cast<unsigned char>(text[i])] ? patterns.trie->longest(text.substr(i)) : Trie::Match{Trie::kNone, 0};
    if (match.value == Trie::kNone) {
      ++i;
      continue;
    }
    AddedToken const& token = patterns.tokens[static_cast<size_t>(match.value)];
    size_t begin = i, end = i + match.size;
    i = end;
    if (token.is_single_word && !is_single_word(text, begin, end)) {
      continue;
    }
    if (token.strips_left) {
      begin = std::max(begin_of_spaces(text, begin), done);
    }
    if (token.strips_right) {
      end = end_of_spaces(text, end);
    }
    if (done < begin) {
      parts.push_back({done, begin, std::nullopt});
    }
    parts.push_back({begin, end, token.id});
    done = end;
  }
  if (done != text.size()) {
    parts.push_back({done, text.size(), std::nullopt});
  }
  return parts;
}

}  // namespace trtbert
