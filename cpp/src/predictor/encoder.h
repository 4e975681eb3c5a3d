// A tokenizer and an engine together: texts -> the rows of the model's outputs, in batches, without their padding.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "trtbert/predictor.h"

namespace trtbert {

// One text's part of an output, valid while `take` runs: [length, width], or [1, width] of an output that has one row a text.
struct Row {
  float const* values;
  size_t length;
  size_t width;
};
using Rows = std::map<std::string, Row>;

// Throws Error (kPackage) where the model has no such output.
Row const& output(Rows const& rows, std::string const& name);

class Encoder {
 public:
  Encoder(Package const& package, std::optional<int> threads);

  Manifest const& manifest() const { return manifest_; }
  Tokenizer const& tokenizer() const { return tokenizer_; }
  size_t max_length() const { return max_length_; }

  std::vector<Encoding> tokenize(std::vector<Text> const& texts) const;
  // Calls `take` once for each encoding, in the order of the batches.
  void run(std::vector<Encoding> const& encodings, std::function<void(size_t, Rows const&)> const& take) const;

 private:
  Feeds feeds(std::vector<Encoding> const& encodings, std::vector<size_t> const& indices, size_t length, size_t num_rows) const;

  Manifest manifest_;
  size_t max_length_;
  Tokenizer tokenizer_;
  std::unique_ptr<Engine> engine_;
  bool is_per_token_;
  size_t max_tokens_;
};

}  // namespace trtbert
