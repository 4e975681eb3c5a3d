// Tokens and their ids: those of the model, and those that were added to it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

namespace trtbert {

class Vocabulary {
 public:
  void add(std::string const& token, int32_t id) {
    ids_[token] = id;
    tokens_[id] = token;
  }
  std::optional<int32_t> id_of(std::string_view token) const {
    auto const found = ids_.find(std::string(token));
    return found == ids_.end() ? std::nullopt : std::optional(found->second);
  }
  std::string_view token_of(int32_t id) const {
    auto const found = tokens_.find(id);
    return found == tokens_.end() ? std::string_view() : found->second;
  }
  size_t size() const { return ids_.size(); }

 private:
  std::unordered_map<std::string, int32_t> ids_;
  std::unordered_map<int32_t, std::string> tokens_;
};

}  // namespace trtbert
