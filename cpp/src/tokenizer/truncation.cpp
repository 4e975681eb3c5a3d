// `tokenizers`' strategy "longest_first".
#include "tokenizer/truncation.h"

#include <algorithm>
#include <utility>

namespace trtbert {

void cut(Encoding& encoding, size_t size, Side side) {
  if (encoding.size() <= size) {
    return;
  }
  if (side == Side::kLeft) {
    encoding.erase(encoding.begin(), encoding.end() - static_cast<ptrdiff_t>(size));
  } else {
    encoding.resize(size);
  }
}

void cut_pair(Encoding& first, Encoding& second, size_t size, Side side) {
  if (first.size() + second.size() <= size) {
    return;
  }
  size_t shorter = std::min(first.size(), second.size());
  size_t longer = shorter > size ? shorter : std::max(shorter, size - shorter);
  if (shorter + longer > size) {
    shorter = size / 2;
    longer = shorter + size % 2;
  }
  bool const is_first_longer = first.size() > second.size();
  cut(first, is_first_longer ? longer : shorter, side);
  cut(second, is_first_longer ? shorter : longer, side);
}

}  // namespace trtbert
