// UTF-8: reading, writing and checking it.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace trtbert {

inline bool is_continuation(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

// The character that begins at `place`, which is moved behind it; `text` is valid.
inline char32_t next_character(std::string_view text, size_t& place) {
  auto const at = [&](size_t i) { return static_cast<char32_t>(static_cast<unsigned char>(text[place + i])); };
  char32_t const first = at(0);
  if (first < 0x80) {
    place += 1;
    return first;
  }
  if (first < 0xE0) {
    char32_t const character = (first & 0x1F) << 6 | (at(1) & 0x3F);
    place += 2;
    return character;
  }
  if (first < 0xF0) {
    char32_t const character = (first & 0x0F) << 12 | (at(1) & 0x3F) << 6 | (at(2) & 0x3F);
    place += 3;
    return character;
  }
  char32_t const character = (first & 0x07) << 18 | (at(1) & 0x3F) << 12 | (at(2) & 0x3F) << 6 | (at(3) & 0x3F);
  place += 4;
  return character;
}

void append_character(std::string& text, char32_t character);

// The number of characters of valid text.
size_t count_characters(std::string_view text);

// The bytes of the characters [begin, end) of valid text.
std::string_view characters_of(std::string_view text, size_t begin, size_t end);

// The first byte that is not valid UTF-8, as Rust and Python have it: no surrogates, nothing overlong, nothing above U+10FFFF.
std::optional<size_t> find_invalid(std::string_view text);

}  // namespace trtbert
