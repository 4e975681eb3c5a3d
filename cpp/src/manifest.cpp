// Reads the fields that a server needs; the figures of the build are not looked at.
#include "manifest.h"

#include <algorithm>

namespace trtbert {
namespace {

std::vector<std::string> texts(Field const& list) {
  std::vector<std::string> found;
  for (Field const& item : list.items()) {
    found.push_back(item.text());
  }
  return found;
}

std::map<std::string, std::string> text_map(Field const& object) {
  std::map<std::string, std::string> found;
  for (auto const& [name, value] : object.members()) {
    found.emplace(name, value.text());
  }
  return found;
}

std::optional<std::string> optional_text(Field const& object, char const* name) {
  auto const field = object.find(name);
  return field ? std::optional(field->text()) : std::nullopt;
}

std::vector<TensorFacts> tensors(Field const& list) {
  std::vector<TensorFacts> found;
  for (Field const& item : list.items()) {
    TensorFacts facts{item["name"].text(), item["dtype"].text(), {}};
    for (Field const& size : item["shape"].items()) {
      facts.shape.push_back(size.json().is_string() ? -1 : size.integer());
    }
    found.push_back(std::move(facts));
  }
  return found;
}

// Every batch is filled up to the smallest one, so that is bounded.
Range range(Field const& field, int64_t most) {
  Range const found{field["min"].integer(), field["max"].integer()};
  if (found.min < 1 || found.max < found.min) {
    field.refuse("it must hold 1 <= min <= max");
  }
  if (found.min > most) {
    field["min"].refuse("it must be " + std::to_string(most) + " or less, got " + std::to_string(found.min));
  }
  return found;
}

std::vector<Profile> profiles(Field const& manifest) {
  constexpr int64_t kMaxTexts = 4096, kMaxTokens = int64_t{1} << 22;
  std::vector<Profile> found;
  if (auto const list = manifest.find("profiles")) {
    for (Field const& item : list->items()) {
      auto const length = item.find("seq_len");
      Range const batch_size = range(item["batch_size"], kMaxTexts);
      found.push_back({batch_size, length ? std::optional(range(*length, kMaxTokens / batch_size.min)) : std::nullopt});
    }
  }
  return found;
}

std::optional<PluginLibrary> plugins(Field const& manifest) {
  auto const field = manifest.find("plugins");
  if (!field) {
    return std::nullopt;
  }
  return PluginLibrary{(*field)["name"].text(), (*field)["version"].text(), (*field)["sha256"].text()};
}

std::string task(Field const& field) {
  std::string const name = field.text();
  std::string allowed;
  for (char const* const each : {"text-classification", "token-classification", "question-answering", "feature-extraction",
                                 "sentence-similarity", "fill-mask", "text-ranking"}) {
    if (name == each) {
      return name;
    }
    allowed += (allowed.empty() ? "" : ", ") + std::string(each);
  }
  field.refuse("it must be one of " + allowed + ", got \"" + name + "\"");
}

void read_tokenizer(Field const& tokenizer, Manifest& manifest) {
  manifest.tokenizer_file = optional_text(tokenizer, "file").value_or("tokenizer.json");
  manifest.pad_token_id = tokenizer["pad_token_id"].id();
  auto const type_id = tokenizer.find("pad_token_type_id");
  manifest.pad_token_type_id = type_id ? type_id->id() : 0;
  if (auto const mask = tokenizer.find("mask_token_id")) {
    manifest.mask_token_id = mask->id();
  }
}

}  // namespace

Manifest read_manifest(Field const& field) {
  constexpr int64_t kVersion = 1;
  if (auto const version = field["format_version"].integer(); version != kVersion) {
    field.refuse("it has the format version " + std::to_string(version) + ", and this library reads version 1. " +
                 "Compile the package again, or take the library of the trtbert that wrote it");
  }
  Manifest manifest{};
  Field const model = field["model"];
  manifest.task = task(model["task"]);
  if (auto const labels = model.find("labels")) {
    manifest.labels = texts(*labels);
  }
  manifest.max_length = model["max_length"].integer();
  if (manifest.max_length < 1) {
    model["max_length"].refuse("it must be 1 or more");
  }
  manifest.inputs = tensors(model["inputs"]);
  manifest.outputs = tensors(model["outputs"]);
  read_tokenizer(model["tokenizer"], manifest);
  manifest.target = field["target"].text();
  manifest.runtime = field["runtime"].text();
  manifest.engine = optional_text(field, "engine");
  manifest.versions = text_map(field["versions"]);
  manifest.compute_capability = optional_text(field, "compute_capability");
  manifest.profiles = profiles(field);
  manifest.plugins = plugins(field);
  manifest.files = text_map(field["files"]);
  return manifest;
}

}  // namespace trtbert
