// Text on its way through the normalisers: characters, each with the place in the text that it comes from.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace trtbert {

struct Character {
  char32_t value;
  uint32_t place;
};
using Characters = std::vector<Character>;

// Normalised text as the model reads it: UTF-8, and the place of each byte.
struct Normalized {
  std::string bytes;
  std::vector<uint32_t> places;

  void append(std::string_view text, uint32_t place) {
    bytes += text;
    places.insert(places.end(), text.size(), place);
  }
};

// `text` is valid UTF-8; `place` is that of its first character.
Characters read_characters(std::string_view text, uint32_t place);
Normalized write_characters(Characters const& characters);

// A character of a rewritten text. `change` says what it stands for: 0 the next character of the old text, 1 none of them (it is new,
// and takes the place of the one before), -n the next one and n more.
struct Rewritten {
  char32_t value;
  int change;
};
// `num_removed` is how many of the first old characters have gone.
Characters rewrite(Characters const& old, std::vector<Rewritten> const& rewritten, size_t num_removed = 0);

// Drops the others.
void keep_if(Characters& characters, std::function<bool(char32_t)> const& is_kept);

void lower_case(Characters& characters);

}  // namespace trtbert
