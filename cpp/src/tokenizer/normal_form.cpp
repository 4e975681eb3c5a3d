// Unicode Standard Annex 15: decompose, put marks in order, and compose again.
#include "tokenizer/normal_form.h"

#include <algorithm>
#include <cstddef>
#include <string>

#include "text/unicode.h"

namespace trtbert {
namespace {

struct Part {
  char32_t value;
  int change;
  int combining_class;
};

std::vector<Part> decompose(Characters const& characters, bool is_compatible) {
  std::vector<Part> parts;
  size_t first_unsorted = 0;
  auto const sort = [&] {
    std::stable_sort(parts.begin() + static_cast<std::ptrdiff_t>(first_unsorted), parts.end(),
                     [](Part const& a, Part const& b) { return a.combining_class < b.combining_class; });
  };
  std::u32string decomposition;
  for (Character const& character : characters) {
    decomposition.clear();
    unicode::append_decomposition(character.value, is_compatible, decomposition);
    for (size_t i = 0; i < decomposition.size(); ++i) {
      int const combining_class = unicode::combining_class(decomposition[i]);
      if (combining_class == 0) {
        sort();
        first_unsorted = parts.size() + 1;
      }
      parts.push_back({decomposition[i], i == 0 ? 0 : 1, combining_class});
    }
  }
  sort();
  return parts;
}

// Marks join the last starter where nothing of their class, or of a higher one, stands between.
std::vector<Part> compose(std::vector<Part> const& parts) {
  std::vector<Part> made;
  std::ptrdiff_t starter = -1;
  int last_class = -1;  // of what stands between the starter and the part; -1 for nothing
  for (Part const& part : parts) {
    bool const is_blocked = last_class >= part.combining_class;
    char32_t const both = starter >= 0 && !is_blocked ? unicode::composed(made[static_cast<size_t>(starter)].value, part.value) : 0;
    if (both != 0) {
      made[static_cast<size_t>(starter)].value = both;
      made[static_cast<size_t>(starter)].change += part.change - 1;
      continue;
    }
    made.push_back(part);
    if (part.combining_class == 0) {
      starter = static_cast<std::ptrdiff_t>(made.size()) - 1;
      last_class = -1;
    } else if (starter >= 0) {
      last_class = part.combining_class;
    }
  }
  return made;
}

}  // namespace

void to_normal_form(Characters& characters, NormalForm form) {
  std::vector<Part> parts = decompose(characters, form == NormalForm::kNfkc || form == NormalForm::kNfkd);
  if (form == NormalForm::kNfc || form == NormalForm::kNfkc) {
    parts = compose(parts);
  }
  std::vector<Rewritten> rewritten;
  rewritten.reserve(parts.size());
  for (Part const& part : parts) {
    rewritten.push_back({part.value, part.change});
  }
  characters = rewrite(characters, rewritten);
}

}  // namespace trtbert
