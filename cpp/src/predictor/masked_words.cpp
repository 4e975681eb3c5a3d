// fill-mask: a text with mask tokens -> the likeliest tokens in their places.
#include <algorithm>

#include "predictor/tasks.h"
#include "text/utf8.h"
#include "trtbert/error.h"

namespace trtbert {
namespace {

Fill fill(Encoder const& encoder, Encoding const& encoding, size_t place, int32_t token, float score, bool is_only) {
  Tokenizer const& tokenizer = encoder.tokenizer();
  std::vector<int32_t> ids;
  for (size_t i = 0; i < encoding.size(); ++i) {
    int32_t const id = i == place ? token : encoding[i].id;
    if (id != encoder.manifest().pad_token_id) {
      ids.push_back(id);
    }
  }
  // With several masks the others must stay readable.
  return {score, token, tokenizer.decode(std::vector<int32_t>{token}, false), tokenizer.decode(ids, is_only)};
}

std::vector<size_t> masks_of(Encoder const& encoder, Encoding const& encoding, int32_t mask, std::string const& text) {
  std::vector<size_t> places;
  for (size_t i = 0; i < encoding.size(); ++i) {
    if (encoding[i].id == mask) {
      places.push_back(i);
    }
  }
  if (places.empty()) {
    std::string const token(encoder.tokenizer().token_of(mask));
    throw Error(ErrorKind::kInput, "\"" + std::string(characters_of(text, 0, 80)) + "\" has no " + token + " in its first " +
                                       std::to_string(encoder.max_length()) + " tokens; put " + token + " where a word is to go.");
  }
  return places;
}

}  // namespace

std::vector<std::vector<std::vector<Fill>>> fills_of(Encoder const& encoder, std::vector<Text> const& texts, size_t top_k,
                                                     size_t& words_left) {
  std::optional<int32_t> const mask = encoder.manifest().mask_token_id;
  if (!mask) {
    throw Error(ErrorKind::kUnsupported, "The tokenizer of this package has no mask token, so masks cannot be filled.");
  }
  std::vector<Encoding> const encodings = encoder.tokenize(texts);
  std::vector<std::vector<size_t>> places;
  size_t words = 0;
  for (size_t i = 0; i < texts.size(); ++i) {
    places.push_back(masks_of(encoder, encodings[i], *mask, texts[i].text));
    words += places.back().size() * top_k;
  }
  if (words > words_left) {
    throw Error(ErrorKind::kInput, "The answer would hold " + std::to_string(words) + " words, and of those that are allowed at once " +
                                       std::to_string(words_left) + " are left. Send fewer texts at once, or a smaller top_k.");
  }
  words_left -= words;
  std::vector<std::vector<std::vector<Fill>>> results(texts.size());
  encoder.run(encodings, [&](size_t index, Rows const& rows) {
    Row const& row = output(rows, "scores");
    for (size_t const place : places[index]) {
      float const* const scores = row.values + place * row.width;
      std::vector<Fill>& fills = results[index].emplace_back();
      for (size_t const token : largest(scores, row.width, top_k)) {
        fills.push_back(fill(encoder, encodings[index], place, static_cast<int32_t>(token), scores[token], places[index].size() == 1));
      }
    }
  });
  return results;
}

}  // namespace trtbert
