// UTF-8 by the table of the Unicode standard (Table 3-7, well-formed byte sequences).
#include "text/utf8.h"

#include <algorithm>

namespace trtbert {

void append_character(std::string& text, char32_t character) {
  auto const rest = [&](int shift) { return static_cast<char>(0x80 | (character >> shift & 0x3F)); };
  if (character < 0x80) {
    text += static_cast<char>(character);
  } else if (character < 0x800) {
    text += {static_cast<char>(0xC0 | character >> 6), rest(0)};
  } else if (character < 0x10000) {
    text += {static_cast<char>(0xE0 | character >> 12), rest(6), rest(0)};
  } else {
    text += {static_cast<char>(0xF0 | character >> 18), rest(12), rest(6), rest(0)};
  }
}

size_t count_characters(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char byte) { return !is_continuation(byte); }));
}

std::string_view characters_of(std::string_view text, size_t begin, size_t end) {
  size_t place = 0, number = 0;
  auto const skip_to = [&](size_t wanted) {
    while (place < text.size() && number < wanted) {
      next_character(text, place);
      ++number;
    }
    return place;
  };
  size_t const first = skip_to(begin);
  return text.substr(first, skip_to(end) - first);
}

std::optional<size_t> find_invalid(std::string_view text) {
  auto const byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
  for (size_t i = 0; i < text.size();) {
    unsigned const first = byte(i);
    if (first < 0x80) {
      ++i;
      continue;
    }
    size_t const length = first >= 0xC2 && first < 0xE0 ? 2 : first >= 0xE0 && first < 0xF0 ? 3 : first >= 0xF0 && first < 0xF5 ? 4 : 0;
    unsigned const lowest = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    unsigned const highest = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    if (length == 0 || byte(i + 1) < lowest || byte(i + 1) > highest) {
      return i;
    }
    for (size_t k = 2; k < length; ++k) {
      if (byte(i + k) < 0x80 || byte(i + k) > 0xBF) {
        return i;
      }
    }
    i += length;
  }
  return std::nullopt;
}

}  // namespace trtbert
