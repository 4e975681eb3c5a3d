// The tasks: texts -> answers of one chunk of texts.
#pragma once

#include <vector>

#include "predictor/encoder.h"

namespace trtbert {

// The values of the output `name`, one row a text.
std::vector<std::vector<float>> vectors_of(Encoder const& encoder, std::vector<Text> const& texts, std::string const& name);
std::vector<Features> features_of(Encoder const& encoder, std::vector<Text> const& texts);
std::vector<std::vector<Label>> labels_of(Encoder const& encoder, std::vector<Text> const& texts, size_t top_k);
std::vector<std::vector<Entity>> entities_of(Encoder const& encoder, std::vector<Text> const& texts, EntityOptions const& options);
std::vector<std::vector<Answer>> answers_of(Encoder const& encoder, std::vector<Text> const& questions, AnswerOptions const& options);
// Takes the words that it fills in from `words_left`; throws Error (kInput) where they are more.
std::vector<std::vector<std::vector<Fill>>> fills_of(Encoder const& encoder, std::vector<Text> const& texts, size_t top_k,
                                                     size_t& words_left);

std::string label_name(Manifest const& manifest, size_t label);
// The indices of the `number` largest values, the largest first; equal ones in their order.
std::vector<size_t> largest(float const* values, size_t size, size_t number);

}  // namespace trtbert
