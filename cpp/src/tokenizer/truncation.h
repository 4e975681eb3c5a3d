// Texts that are too long lose tokens, the longer one of a pair first.
#pragma once

#include <cstddef>

#include "trtbert/tokenizer.h"

namespace trtbert {

enum class Side { kLeft, kRight };

// Keeps `size` tokens; `side` is where others are cut off.
void cut(Encoding& encoding, size_t size, Side side);
// The same for two texts that must fit together; where both are too long each keeps half.
void cut_pair(Encoding& first, Encoding& second, size_t size, Side side);

}  // namespace trtbert
