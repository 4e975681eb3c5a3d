// ICU knows newer characters than the crates that `tokenizers` uses; u_charAge tells which those do not know.
//
// The exceptions are what remains: properties that Unicode changed since. tests/cpp/test_unicode.py compares every code point.
#include "text/unicode.h"

#include <unicode/uchar.h>
#include <unicode/unorm2.h>

#include <algorithm>
#include <array>
#include <stdexcept>

namespace trtbert::unicode {
namespace {

// Whether it was in this major version of Unicode.
bool is_known(char32_t character, int version) {
  UVersionInfo age;
  u_charAge(static_cast<UChar32>(character), age);
  return age[0] > 0 && age[0] <= version;
}

uint32_t category(char32_t character) { return U_MASK(u_charType(static_cast<UChar32>(character))); }

template <size_t N>
bool is_one_of(char32_t character, std::array<char32_t, N> const& characters) {
  return std::find(characters.begin(), characters.end(), character) != characters.end();
}

UNormalizer2 const* form(bool is_compatible) {
  UErrorCode error = U_ZERO_ERROR;
  UNormalizer2 const* const found = is_compatible ? unorm2_getNFKDInstance(&error) : unorm2_getNFDInstance(&error);
  if (U_FAILURE(error)) {
    throw std::runtime_error(std::string("ICU has no normalisation data: ") + u_errorName(error));
  }
  return found;
}

// Capital letters of Unicode 16 and 17, and the distance to their small ones.
struct CaseRange {
  char32_t first;
  char32_t last;
  int32_t distance;
};
constexpr CaseRange kNewCapitals[] = {
    {0x1C89, 0x1C89, 1}, {0xA7CB, 0xA7CB, -42343}, {0xA7CC, 0xA7CC, 1},      {0xA7CE, 0xA7CE, 1},    {0xA7D2, 0xA7D2, 1},
    {0xA7D4, 0xA7D4, 1}, {0xA7DA, 0xA7DA, 1},      {0xA7DC, 0xA7DC, -42561}, {0x10D50, 0x10D65, 32}, {0x16EA0, 0x16EB8, 27},
};

}  // namespace

bool is_removed_by_bert(char32_t character) {
  if (character == '\t' || character == '\n' || character == '\r') {
    return false;
  }
  if (character == 0 || character == 0xFFFD) {
    return true;
  }
  return (category(character) & (U_GC_CC_MASK | U_GC_CF_MASK | U_GC_CO_MASK)) != 0 && is_known(character, 8);
}

bool is_punctuation(char32_t character) {
  if (character < 0x80) {
    return (category(character) & (U_GC_P_MASK | U_GC_S_MASK)) != 0;
  }
  if (character == 0x166D || character == 0x111C9) {
    return true;
  }
  return (category(character) & U_GC_P_MASK) != 0 && is_known(character, 8);
}

bool is_nonspacing_mark(char32_t character) {
  if (is_one_of<3>(character, {0x1885, 0x1886, 0x111C9})) {
    return false;
  }
  if (is_one_of<2>(character, {0x1734, 0xA9BD})) {
    return character == 0x1734;
  }
  return (category(character) & U_GC_MN_MASK) != 0 && is_known(character, 8);
}

bool is_combining_mark(char32_t character) {
  if (is_one_of<3>(character, {0x1CF2, 0x1CF3, 0x111C9})) {
    return character != 0x111C9;
  }
  return (category(character) & U_GC_M_MASK) != 0 && is_known(character, 9);
}

int combining_class(char32_t character) { return is_known(character, 9) ? u_getCombiningClass(static_cast<UChar32>(character)) : 0; }

void append_decomposition(char32_t character, bool is_compatible, std::u32string& to) {
  static UNormalizer2 const* const kForms[] = {form(false), form(true)};
  std::array<UChar, 32> units;
  UErrorCode error = U_ZERO_ERROR;
  int32_t const length = !is_known(character, 9) ? -1
                                                 : unorm2_getDecomposition(kForms[is_compatible ? 1 : 0], static_cast<UChar32>(character),
                                                                           units.data(), static_cast<int32_t>(units.size()), &error);
  if (length < 0 || U_FAILURE(error)) {
    to += character;
    return;
  }
  for (int32_t i = 0; i < length;) {
    UChar32 part = 0;
    U16_NEXT(units.data(), i, length, part);
    to += static_cast<char32_t>(part);
  }
}

char32_t composed(char32_t first, char32_t second) {
  static UNormalizer2 const* const kForm = [] {
    UErrorCode error = U_ZERO_ERROR;
    UNormalizer2 const* const found = unorm2_getNFCInstance(&error);
    return U_FAILURE(error) ? throw std::runtime_error("ICU has no normalisation data") : found;
  }();
  UChar32 const made = unorm2_composePair(kForm, static_cast<UChar32>(first), static_cast<UChar32>(second));
  return made > 0 && is_known(static_cast<char32_t>(made), 9) ? static_cast<char32_t>(made) : 0;
}

bool is_white_space(char32_t character) { return u_isUWhiteSpace(static_cast<UChar32>(character)); }

void append_lower_case(char32_t character, std::u32string& to) {
  if (character == 0x130) {  // I with a dot: the only one that becomes two.
    to += U"i\u0307";
    return;
  }
  for (CaseRange const& range : kNewCapitals) {
    if (character >= range.first && character <= range.last) {
      to += static_cast<char32_t>(static_cast<int32_t>(character) + range.distance);
      return;
    }
  }
  to += static_cast<char32_t>(u_tolower(static_cast<UChar32>(character)));
}

bool is_word(char32_t character) {
  auto const c = static_cast<UChar32>(character);
  return u_isUAlphabetic(c) || (category(character) & (U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK)) != 0 ||
         u_hasBinaryProperty(c, UCHAR_JOIN_CONTROL);
}

bool is_chinese(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B81F) ||
         (c >= 0x2B920 && c <= 0x2CEAF) || (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

}  // namespace trtbert::unicode
