// The "post_processor" of a tokenizer.json: the special tokens around one text, or two.
#pragma once

#include <vector>

#include "json/fields.h"
#include "trtbert/tokenizer.h"

namespace trtbert {

class PostProcessor {
 public:
  // Throws Error (kUnsupported) for a kind that is not here. `post_processor` may be null: nothing is added.
  explicit PostProcessor(Field const& post_processor);

  Encoding process(Encoding text) const;
  Encoding process(Encoding first, Encoding second) const;
  // Of one text, without special tokens.
  Encoding process_alone(Encoding text) const;
  size_t num_added_tokens(bool is_pair) const;

 private:
  // A text (the first or the second), or special tokens.
  struct Piece {
    int32_t sequence;  // -1 of special tokens
    int32_t type_id;
    Encoding tokens;
  };
  using Template = std::vector<Piece>;

  static Template read_template(Field const& pieces, Field const& special_tokens);
  static Encoding fill(Template const& pieces, std::vector<Encoding> texts);
  void trim_offsets(Encoding& text) const;

  Template single_;
  Template pair_;
  bool trims_offsets_ = false;
  bool adds_prefix_space_ = false;
};

}  // namespace trtbert
