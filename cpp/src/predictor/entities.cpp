// token-classification: a text -> its tokens or entities, with the aggregation strategies of `transformers`' pipeline.
#include <algorithm>
#include <array>

#include "predictor/tasks.h"
#include "text/utf8.h"
#include "trtbert/error.h"

namespace trtbert {
namespace {

// A token or a word: its scores, one a label, and its place in the text.
struct Piece {
  std::string word;
  std::vector<float> scores;
  Span place;
  size_t index;
  bool is_subword;
};

constexpr std::array<char const*, 5> kAggregations{"none", "simple", "first", "average", "max"};

bool is_subword(Tokenizer const& tokenizer, std::string const& text, Token const& token) {
  auto const [begin, end] = token.offsets;
  if (tokenizer.has_subword_prefix()) {
    return count_characters(token.text) != end - begin;
  }
  return begin > 0 && characters_of(text, begin - 1, begin + 1).find(' ') == std::string_view::npos;
}

std::vector<Piece> pieces_of(Tokenizer const& tokenizer, std::string const& text, Encoding const& encoding, Row const& scores) {
  std::vector<Piece> pieces;
  for (size_t i = 0; i < encoding.size(); ++i) {
    Token const& token = encoding[i];
    if (token.is_special()) {
      continue;
    }
    bool const is_unknown = token.id == tokenizer.unknown_id();
    float const* const values = scores.values + i * scores.width;
    pieces.push_back({is_unknown ? std::string(characters_of(text, token.offsets.begin, token.offsets.end)) : token.text,
                      {values, values + scores.width},
                      token.offsets,
                      i,
                      !is_unknown && is_subword(tokenizer, text, token)});
  }
  return pieces;
}

size_t best_label(std::vector<float> const& scores) {
  return static_cast<size_t>(std::max_element(scores.begin(), scores.end()) - scores.begin());
}

// The scores of a word: those of its first token, the mean of its tokens, or those of its surest token.
std::vector<float> word_scores(std::vector<Piece> const& pieces, std::string const& aggregation) {
  if (aggregation == "first") {
    return pieces.front().scores;
  }
  if (aggregation == "max") {
    auto const top = [](Piece const& piece) { return *std::max_element(piece.scores.begin(), piece.scores.end()); };
    return std::max_element(pieces.begin(), pieces.end(), [&](Piece const& a, Piece const& b) { return top(a) < top(b); })->scores;
  }
  std::vector<float> mean = pieces.front().scores;
  for (size_t label = 0; label < mean.size(); ++label) {
    for (size_t i = 1; i < pieces.size(); ++i) {
      mean[label] += pieces[i].scores[label];
    }
    mean[label] /= static_cast<float>(pieces.size());
  }
  return mean;
}

std::vector<Piece> words_of(Tokenizer const& tokenizer, std::vector<Piece> const& pieces, std::string const& aggregation) {
  std::vector<std::vector<Piece>> groups;
  for (Piece const& piece : pieces) {
    if (!piece.is_subword || groups.empty()) {
      groups.emplace_back();
    }
    groups.back().push_back(piece);
  }
  std::vector<Piece> words;
  for (std::vector<Piece> const& group : groups) {
    std::vector<std::string> parts;
    for (Piece const& piece : group) {
      parts.push_back(piece.word);
    }
    words.push_back({tokenizer.decode(std::move(parts)),
                     word_scores(group, aggregation),
                     {group.front().place.begin, group.back().place.end},
                     group.front().index,
                     false});
  }
  return words;
}

bool has_prefix(std::string const& label, char const* prefix) { return label.rfind(prefix, 0) == 0; }

std::string name_of(std::string const& label) { return has_prefix(label, "B-") || has_prefix(label, "I-") ? label.substr(2) : label; }

// Neighbours of one label as one entity; B- begins a new one.
std::vector<Entity> grouped(Tokenizer const& tokenizer, std::vector<Entity> const& tokens) {
  std::vector<Entity> entities;
  for (size_t begin = 0, end = 0; begin < tokens.size(); begin = end) {
    std::vector<std::string> words;
    double sum = 0;
    std::string const name = name_of(tokens[begin].label);
    for (end = begin; end == begin || (end < tokens.size() && !has_prefix(tokens[end].label, "B-") && name_of(tokens[end].label) == name);
         ++end) {
      words.push_back(tokens[end].word);
      sum += tokens[end].score;
    }
    std::string const& label = tokens[begin].label;
    entities.push_back({label.substr(label.find('-') + 1), sum / static_cast<double>(end - begin), tokenizer.decode(std::move(words)),
                        tokens[begin].begin, tokens[end - 1].end, tokens[begin].index});
  }
  return entities;
}

}  // namespace

std::vector<std::vector<Entity>> entities_of(Encoder const& encoder, std::vector<Text> const& texts, EntityOptions const& options) {
  std::string const& aggregation = options.aggregation;
  if (std::find(kAggregations.begin(), kAggregations.end(), aggregation) == kAggregations.end()) {
    throw Error(ErrorKind::kConfig, "aggregation_strategy must be one of none, simple, first, average, max, got \"" + aggregation + "\".");
  }
  std::vector<Encoding> const encodings = encoder.tokenize(texts);
  std::vector<std::vector<Entity>> results(texts.size());
  encoder.run(encodings, [&](size_t index, Rows const& rows) {
    std::vector<Piece> pieces = pieces_of(encoder.tokenizer(), texts[index].text, encodings[index], output(rows, "scores"));
    if (aggregation != "none" && aggregation != "simple") {
      pieces = words_of(encoder.tokenizer(), pieces, aggregation);
    }
    std::vector<Entity> found;
    for (Piece const& piece : pieces) {
      size_t const best = best_label(piece.scores);
      found.push_back(
          {label_name(encoder.manifest(), best), piece.scores[best], piece.word, piece.place.begin, piece.place.end, piece.index});
    }
    if (aggregation != "none") {
      found = grouped(encoder.tokenizer(), found);
    }
    for (Entity& entity : found) {
      if (std::find(options.ignored_labels.begin(), options.ignored_labels.end(), entity.label) == options.ignored_labels.end()) {
        results[index].push_back(std::move(entity));
      }
    }
  });
  return results;
}

}  // namespace trtbert
