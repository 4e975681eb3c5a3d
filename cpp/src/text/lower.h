// Whole texts in lower case.
#pragma once

#include <string>
#include <string_view>

namespace trtbert {

// As Python's str.lower(): a sigma that ends a word is another letter than one within.
std::string lower_case_of(std::string_view text);

}  // namespace trtbert
