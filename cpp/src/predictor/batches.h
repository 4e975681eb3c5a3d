// Lengths of texts -> batches of about equal lengths that the profiles of an engine take.
#pragma once

#include <cstddef>
#include <vector>

#include "trtbert/package.h"

namespace trtbert {

struct Batch {
  std::vector<size_t> indices;  // of the texts
  size_t length;                // in tokens, that they are padded to
  size_t num_rows;              // to fill up to
};

// Longest first, at most `max_tokens` padded tokens a batch, as in the Python package: padding changes the last digits of an answer.
std::vector<Batch> plan_batches(std::vector<size_t> const& lengths, std::vector<Profile> const& profiles, size_t max_tokens);

// The longest text, in tokens, that the model and one of its profiles take.
size_t longest_length(Manifest const& manifest);

}  // namespace trtbert
