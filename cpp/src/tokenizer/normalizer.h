// The "normalizer" of a tokenizer.json.
#pragma once

#include <functional>
#include <optional>
#include <string_view>
#include <vector>

#include "json/fields.h"
#include "tokenizer/bert_normalizer.h"
#include "tokenizer/characters.h"

namespace trtbert {

class Normalizer {
 public:
  // Throws Error (kUnsupported) for a kind of normaliser that is not here. `normalizer` may be null: texts stay as they are.
  explicit Normalizer(Field const& normalizer);

  // `text` is valid UTF-8; `place` is that of its first character.
  Normalized normalize(std::string_view text, uint32_t place) const;

 private:
  using Step = std::function<void(Characters&)>;
  static void add_steps(Field const& normalizer, std::vector<Step>& steps);

  std::optional<BertNormalizer> bert_;  // where it is the only step
  std::vector<Step> steps_;
};

}  // namespace trtbert
