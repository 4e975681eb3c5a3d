// A package folder that `trtbert compile` wrote: its manifest, read and checked, and where its files lie.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "trtbert/export.h"

namespace trtbert {

// An input or output of the model; a dimension that varies is -1.
struct TensorFacts {
  std::string name;
  std::string dtype;  // numpy's word
  std::vector<int64_t> shape;
};

struct Range {
  int64_t min;
  int64_t max;
};

// Shapes that an engine takes; without `length` every length.
struct Profile {
  Range batch_size;
  std::optional<Range> length;
};

struct PluginLibrary {
  std::string name;
  std::string version;
  std::string sha256;
};

// The fields of manifest.json that a server needs.
struct Manifest {
  std::string task;  // such as "text-classification"
  std::vector<std::string> labels;
  int64_t max_length;  // of an input in tokens, special tokens included
  std::vector<TensorFacts> inputs;
  std::vector<TensorFacts> outputs;
  std::string tokenizer_file;
  int32_t pad_token_id;
  int32_t pad_token_type_id;
  std::optional<int32_t> mask_token_id;
  std::string target;   // such as "cpu" or "sm80"
  std::string runtime;  // "openvino", "tensorrt"...
  std::optional<std::string> engine;
  std::map<std::string, std::string> versions;
  std::optional<std::string> compute_capability;
  std::vector<Profile> profiles;
  std::optional<PluginLibrary> plugins;
  std::map<std::string, std::string> files;  // sha256 of each
};

class TRTBERT_RUNNER_API Package {
 public:
  // Reads the manifest and checks every file that it lists; `check_hashes` = false skips reading them through.
  // Throws Error (kPackage) for whatever is not as the manifest says.
  static Package open(std::filesystem::path const& folder, bool check_hashes = true);

  Manifest const& manifest() const { return manifest_; }
  std::filesystem::path const& folder() const { return folder_; }
  std::filesystem::path tokenizer_path() const { return folder_ / manifest_.tokenizer_file; }
  // Throws Error (kMissingRuntime) for a build kit, whose engine is yet to be built.
  std::filesystem::path engine_path() const;

 private:
  Package(std::filesystem::path folder, Manifest manifest) : folder_(std::move(folder)), manifest_(std::move(manifest)) {}

  std::filesystem::path folder_;
  Manifest manifest_;
};

}  // namespace trtbert
