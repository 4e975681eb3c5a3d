// Where the characters of a rewritten text come from.
#include "tokenizer/characters.h"

#include <algorithm>
#include <cassert>

#include "text/unicode.h"
#include "text/utf8.h"

namespace trtbert {

Characters read_characters(std::string_view text, uint32_t place) {
  Characters characters;
  characters.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++place) {
    characters.push_back({next_character(text, i), place});
  }
  return characters;
}

Normalized write_characters(Characters const& characters) {
  Normalized normalized;
  for (auto const& [value, place] : characters) {
    size_t const before = normalized.bytes.size();
    append_character(normalized.bytes, value);
    normalized.places.insert(normalized.places.end(), normalized.bytes.size() - before, place);
  }
  return normalized;
}

Characters rewrite(Characters const& old, std::vector<Rewritten> const& rewritten, size_t num_removed) {
  Characters made;
  made.reserve(rewritten.size());
  size_t next = num_removed;
  for (auto const& [value, change] : rewritten) {
    assert(change > 0 ? next > 0 : next < old.size());
    made.push_back({value, old[change > 0 ? next - 1 : next].place});
    if (change <= 0) {
      next += 1 + static_cast<size_t>(-change);
    }
  }
  return made;
}

void keep_if(Characters& characters, std::function<bool(char32_t)> const& is_kept) {
  auto const is_dropped = [&](Character const& character) { return !is_kept(character.value); };
  characters.erase(std::remove_if(characters.begin(), characters.end(), is_dropped), characters.end());
}

void lower_case(Characters& characters) {
  Characters lowered;
  lowered.reserve(characters.size());
  std::u32string letters;
  for (auto const& [value, place] : characters) {
    letters.clear();
    unicode::append_lower_case(value, letters);
    for (char32_t const letter : letters) {
      lowered.push_back({letter, place});
    }
  }
  characters = std::move(lowered);
}

}  // namespace trtbert
