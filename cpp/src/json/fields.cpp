// Type checks with a message that says what came.
#include "json/fields.h"

#include <limits>

namespace trtbert {

Field Field::operator[](char const* name) const {
  expect(value_->is_object(), "an object");
  auto const member = value_->find(name);
  if (member == value_->end()) {
    refuse(std::string("the field \"") + name + "\" is missing");
  }
  return {*member, place_ + "." + name, kind_};
}

std::optional<Field> Field::find(char const* name) const {
  expect(value_->is_object(), "an object");
  auto const member = value_->find(name);
  if (member == value_->end() || member->is_null()) {
    return std::nullopt;
  }
  return Field(*member, place_ + "." + name, kind_);
}

std::string Field::text() const {
  expect(value_->is_string(), "a string");
  return value_->get<std::string>();
}

int64_t Field::integer() const {
  expect(value_->is_number_integer() && (!value_->is_number_unsigned() || value_->get<uint64_t>() <= std::numeric_limits<int64_t>::max()),
         "an integer");
  return value_->get<int64_t>();
}

int32_t Field::id() const {
  int64_t const number = integer();
  expect(number >= 0 && number <= std::numeric_limits<int32_t>::max(), "an integer of 0 to 2147483647");
  return static_cast<int32_t>(number);
}

bool Field::boolean() const {
  expect(value_->is_boolean(), "true or false");
  return value_->get<bool>();
}

std::vector<Field> Field::items() const {
  expect(value_->is_array(), "an array");
  std::vector<Field> items;
  for (size_t i = 0; i < value_->size(); ++i) {
    items.emplace_back((*value_)[i], place_ + "." + std::to_string(i), kind_);
  }
  return items;
}

std::vector<std::pair<std::string, Field>> Field::members() const {
  expect(value_->is_object(), "an object");
  std::vector<std::pair<std::string, Field>> members;
  for (auto const& [name, member] : value_->items()) {
    members.emplace_back(name, Field(member, place_ + "." + name, kind_));
  }
  return members;
}

void Field::refuse(std::string const& what) const { throw Error(kind_, place_ + ": " + what + "."); }

void Field::expect(bool is_right, char const* wanted) const {
  if (!is_right) {
    // What is nested is not shown: how deep it goes is up to whoever sent it.
    std::string const shown =
        value_->is_structured() ? std::string("an ") + value_->type_name() : value_->dump(-1, ' ', true, Json::error_handler_t::replace);
    refuse(std::string("it must be ") + wanted + ", got " + (shown.size() > 80 ? shown.substr(0, 80) + "..." : shown));
  }
}

}  // namespace trtbert
