// sentence-similarity, text-ranking, feature-extraction and text-classification: rows of the model's outputs, nearly as they are.
#include <algorithm>
#include <numeric>

#include "predictor/tasks.h"

namespace trtbert {

std::vector<std::vector<float>> vectors_of(Encoder const& encoder, std::vector<Text> const& texts, std::string const& name) {
  std::vector<std::vector<float>> vectors(texts.size());
  encoder.run(encoder.tokenize(texts), [&](size_t index, Rows const& rows) {
    Row const& row = output(rows, name);
    vectors[index].assign(row.values, row.values + row.width);
  });
  return vectors;
}

std::vector<Features> features_of(Encoder const& encoder, std::vector<Text> const& texts) {
  std::vector<Features> features(texts.size());
  encoder.run(encoder.tokenize(texts), [&](size_t index, Rows const& rows) {
    Row const& row = output(rows, "last_hidden_state");
    features[index] = {row.length, row.width, {row.values, row.values + row.length * row.width}};
  });
  return features;
}

std::vector<std::vector<Label>> labels_of(Encoder const& encoder, std::vector<Text> const& texts, size_t top_k) {
  std::vector<std::vector<Label>> labels(texts.size());
  encoder.run(encoder.tokenize(texts), [&](size_t index, Rows const& rows) {
    Row const& row = output(rows, "scores");
    for (size_t const label : largest(row.values, row.width, top_k == 0 ? row.width : top_k)) {
      labels[index].push_back({label_name(encoder.manifest(), label), row.values[label]});
    }
  });
  return labels;
}

std::string label_name(Manifest const& manifest, size_t label) {
  return label < manifest.labels.size() ? manifest.labels[label] : "LABEL_" + std::to_string(label);
}

std::vector<size_t> largest(float const* values, size_t size, size_t number) {
  std::vector<size_t> order(size);
  std::iota(order.begin(), order.end(), size_t{0});
  auto const middle = order.begin() + static_cast<std::ptrdiff_t>(std::min(number, size));
  std::partial_sort(order.begin(), middle, order.end(),
                    [&](size_t a, size_t b) { return values[a] != values[b] ? values[a] > values[b] : a < b; });
  order.erase(middle, order.end());
  return order;
}

}  // namespace trtbert
