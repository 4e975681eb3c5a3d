// Fields of a JSON object, each with its type checked: what is wrong is said with the path to it.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "trtbert/error.h"

namespace trtbert {

using Json = nlohmann::json;

// A part of a JSON document and its place in it, such as "manifest.json: model.labels.2".
class Field {
 public:
  Field(Json const& value, std::string place, ErrorKind kind) : value_(&value), place_(std::move(place)), kind_(kind) {}

  Json const& json() const { return *value_; }
  std::string const& place() const { return place_; }
  bool is_null() const { return value_->is_null(); }

  // A member of an object; throws where there is none.
  Field operator[](char const* name) const;
  // The same; without a value where it is missing or null.
  std::optional<Field> find(char const* name) const;

  std::string text() const;
  int64_t integer() const;
  int32_t id() const;  // 0 to 2^31 - 1
  bool boolean() const;
  std::vector<Field> items() const;
  std::vector<std::pair<std::string, Field>> members() const;

  [[noreturn]] void refuse(std::string const& what) const;

 private:
  void expect(bool is_right, char const* wanted) const;

  Json const* value_;
  std::string place_;
  ErrorKind kind_;
};

}  // namespace trtbert
