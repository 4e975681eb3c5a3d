// The table is filled by the slow way, one character at a time, so that both ways are one.
#include "tokenizer/bert_normalizer.h"

#include "text/unicode.h"
#include "text/utf8.h"
#include "tokenizer/normal_form.h"

namespace trtbert {
namespace {

void clean(Characters& characters) {
  keep_if(characters, [](char32_t c) { return !unicode::is_removed_by_bert(c); });
  for (Character& character : characters) {
    if (unicode::is_white_space(character.value)) {
      character.value = ' ';
    }
  }
}

void put_spaces_around_chinese(Characters& characters) {
  Characters spaced;
  spaced.reserve(characters.size());
  for (Character const& character : characters) {
    if (unicode::is_chinese(character.value)) {
      spaced.insert(spaced.end(), {{' ', character.place}, character, {' ', character.place}});
    } else {
      spaced.push_back(character);
    }
  }
  characters = std::move(spaced);
}

// Whether a mark stays that is put in order among its neighbours.
bool depends_on_neighbours(char32_t character, BertFlags flags) {
  if (!flags.strip_accents) {
    return false;
  }
  std::u32string decomposition;
  unicode::append_decomposition(character, false, decomposition);
  for (char32_t const part : decomposition) {
    if (unicode::combining_class(part) != 0 && !unicode::is_nonspacing_mark(part)) {
      return true;
    }
  }
  return false;
}

std::string normalized_alone(char32_t character, BertFlags flags) {
  Characters characters{{character, 0}};
  normalize_for_bert(characters, flags);
  return write_characters(characters).bytes;
}

bool is_surrogate(char32_t character) { return character >= 0xD800 && character < 0xE000; }

}  // namespace

void normalize_for_bert(Characters& characters, BertFlags flags) {
  if (flags.clean_text) {
    clean(characters);
  }
  if (flags.handle_chinese_chars) {
    put_spaces_around_chinese(characters);
  }
  if (flags.strip_accents) {
    to_normal_form(characters, NormalForm::kNfd);
    keep_if(characters, [](char32_t c) { return !unicode::is_nonspacing_mark(c); });
  }
  if (flags.lowercase) {
    lower_case(characters);
  }
}

BertNormalizer::BertNormalizer(BertFlags flags) : flags_(flags) {
  entries_.reserve(kTableSize);
  for (char32_t character = 0; character < kTableSize; ++character) {
    std::string const output = is_surrogate(character) ? std::string() : normalized_alone(character, flags);
    entries_.push_back(
        {static_cast<uint32_t>(outputs_.size()), static_cast<uint8_t>(output.size()), depends_on_neighbours(character, flags)});
    outputs_ += output;
    if (character < ascii_.size()) {
      ascii_[character] = output.empty() ? int16_t{-1} : static_cast<int16_t>(output[0]);
    }
  }
}

Normalized BertNormalizer::normalize(std::string_view text, uint32_t place) const {
  Normalized normalized;
  normalized.bytes.reserve(text.size() + 16);
  normalized.places.reserve(text.size() + 16);
  uint32_t next = place;
  for (size_t i = 0; i < text.size(); ++next) {
    auto const byte = static_cast<unsigned char>(text[i]);
    if (byte < 0x80) {
      ++i;
      if (int16_t const output = ascii_[byte]; output >= 0) {
        normalized.bytes.push_back(static_cast<char>(output));
        normalized.places.push_back(next);
      }
    } else if (!append(normalized, next_character(text, i), next)) {
      Characters characters = read_characters(text, place);
      normalize_for_bert(characters, flags_);
      return write_characters(characters);
    }
  }
  return normalized;
}

// False where the character depends on its neighbours.
bool BertNormalizer::append(Normalized& normalized, char32_t character, uint32_t place) const {
  if (character < kTableSize) {
    Entry const& entry = entries_[character];
    normalized.append(std::string_view(outputs_).substr(entry.begin, entry.size), place);
    return !entry.depends_on_neighbours;
  }
  normalized.append(normalized_alone(character, flags_), place);
  return !depends_on_neighbours(character, flags_);
}

}  // namespace trtbert
