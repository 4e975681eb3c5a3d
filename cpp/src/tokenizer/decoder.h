// The "decoder" of a tokenizer.json: tokens -> text.
#pragma once

#include <string>
#include <vector>

#include "json/fields.h"

namespace trtbert {

class Decoder {
 public:
  // Throws Error (kUnsupported) for another kind than WordPiece. `decoder` may be null: tokens are joined by spaces.
  explicit Decoder(Field const& decoder);

  std::string decode(std::vector<std::string> tokens) const;

 private:
  bool joins_pieces_ = false;
  bool cleans_up_ = false;
  std::string prefix_;
};

}  // namespace trtbert
