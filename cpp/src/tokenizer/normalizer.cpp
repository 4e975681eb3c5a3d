// Every kind of normaliser that tokenizers of the BERT family are built of, as a step over characters.
#include "tokenizer/normalizer.h"

#include <algorithm>

#include "text/unicode.h"
#include "text/utf8.h"
#include "tokenizer/normal_form.h"

namespace trtbert {
namespace {

BertFlags bert_flags(Field const& normalizer) {
  bool const lowercase = normalizer["lowercase"].boolean();
  auto const strip_accents = normalizer.find("strip_accents");
  return {normalizer["clean_text"].boolean(), normalizer["handle_chinese_chars"].boolean(),
          strip_accents ? strip_accents->boolean() : lowercase, lowercase};
}

void strip(Characters& characters, bool is_left, bool is_right) {
  auto const is_kept = [](Character const& character) { return !unicode::is_white_space(character.value); };
  if (is_right) {
    characters.erase(std::find_if(characters.rbegin(), characters.rend(), is_kept).base(), characters.end());
  }
  if (is_left) {
    characters.erase(characters.begin(), std::find_if(characters.begin(), characters.end(), is_kept));
  }
}

// The new text takes the place of the last character of what it replaces.
void replace(Characters& characters, std::u32string const& pattern, std::u32string const& content) {
  Characters replaced;
  auto const is_equal = [](Character const& character, char32_t value) { return character.value == value; };
  for (auto rest = characters.begin(); rest != characters.end();) {
    auto const match = std::search(rest, characters.end(), pattern.begin(), pattern.end(), is_equal);
    replaced.insert(replaced.end(), rest, match);
    rest = match;
    if (match != characters.end()) {
      rest += static_cast<ptrdiff_t>(pattern.size());
      for (char32_t const value : content) {
        replaced.push_back({value, (rest - 1)->place});
      }
    }
  }
  characters = std::move(replaced);
}

std::u32string characters_of_text(Field const& field) {
  std::string const text = field.text();
  std::u32string characters;
  for (size_t i = 0; i < text.size();) {
    characters += next_character(text, i);
  }
  return characters;
}

std::u32string replaced_text(Field const& normalizer) {
  auto const text = normalizer["pattern"].find("String");
  std::u32string pattern = text ? characters_of_text(*text) : std::u32string();
  if (pattern.empty()) {
    normalizer.refuse("a Replace of anything but a plain, non-empty String is not supported here; use the Python package");
  }
  return pattern;
}

}  // namespace

Normalizer::Normalizer(Field const& normalizer) {
  if (normalizer.is_null()) {
    return;
  }
  if (normalizer["type"].text() == "BertNormalizer") {
    bert_.emplace(bert_flags(normalizer));
  } else {
    add_steps(normalizer, steps_);
  }
}

Normalized Normalizer::normalize(std::string_view text, uint32_t place) const {
  if (bert_) {
    return bert_->normalize(text, place);
  }
  Characters characters = read_characters(text, place);
  for (Step const& step : steps_) {
    step(characters);
  }
  return write_characters(characters);
}

void Normalizer::add_steps(Field const& normalizer, std::vector<Step>& steps) {
  std::string const type = normalizer["type"].text();
  if (type == "Sequence") {
    for (Field const& part : normalizer["normalizers"].items()) {
      add_steps(part, steps);
    }
  } else if (type == "BertNormalizer") {
    steps.emplace_back([flags = bert_flags(normalizer)](Characters& c) { normalize_for_bert(c, flags); });
  } else if (type == "Lowercase") {
    steps.emplace_back(lower_case);
  } else if (type == "StripAccents") {
    steps.emplace_back([](Characters& c) { keep_if(c, [](char32_t value) { return !unicode::is_combining_mark(value); }); });
  } else if (type == "Strip") {
    steps.emplace_back(
        [left = normalizer["strip_left"].boolean(), right = normalizer["strip_right"].boolean()](Characters& c) { strip(c, left, right); });
  } else if (type == "Replace") {
    steps.emplace_back([pattern = replaced_text(normalizer), content = characters_of_text(normalizer["content"])](Characters& c) {
      replace(c, pattern, content);
    });
  } else if (type == "NFC" || type == "NFD" || type == "NFKC" || type == "NFKD") {
    NormalForm const form = type == "NFC"    ? NormalForm::kNfc
                            : type == "NFD"  ? NormalForm::kNfd
                            : type == "NFKC" ? NormalForm::kNfkc
                                             : NormalForm::kNfkd;
    steps.emplace_back([form](Characters& c) { to_normal_form(c, form); });
  } else {
    normalizer.refuse("the normalizer " + type +
                      " is not supported here; supported are BertNormalizer, Sequence, NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, "
                      "Strip and Replace. Use the Python package for this one");
  }
}

}  // namespace trtbert
