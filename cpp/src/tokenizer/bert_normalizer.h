// BERT's own normaliser: control characters go, Chinese ones stand alone, accents and capitals go where the model knows none.
#pragma once

#include <array>
#include <string_view>
#include <vector>

#include "tokenizer/characters.h"

namespace trtbert {

struct BertFlags {
  bool clean_text;
  bool handle_chinese_chars;
  bool strip_accents;
  bool lowercase;
};

void normalize_for_bert(Characters& characters, BertFlags flags);

// The same for valid UTF-8, fast: what becomes of a character hardly ever depends on its neighbours, so it is looked up.
class BertNormalizer {
 public:
  explicit BertNormalizer(BertFlags flags);
  // `place` is that of the first character.
  Normalized normalize(std::string_view text, uint32_t place) const;

 private:
  struct Entry {
    uint32_t begin;  // in outputs_
    uint8_t size;
    bool depends_on_neighbours;
  };

  static constexpr char32_t kTableSize = 0x10000;  // the characters of nearly every text; others are computed as they come
  bool append(Normalized& normalized, char32_t character, uint32_t place) const;

  BertFlags flags_;
  std::array<int16_t, 128> ascii_;  // -1 for what goes
  std::vector<Entry> entries_;
  std::string outputs_;
};

}  // namespace trtbert
