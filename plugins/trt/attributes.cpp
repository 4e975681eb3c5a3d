// Reads fields with memcpy: TensorRT and the ONNX parser hand them over as bytes of any alignment.
#include "trt/attributes.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <sstream>

#include "trt/log.h"

namespace trtbert {
namespace {

using nvinfer1::PluginField;
using nvinfer1::PluginFieldType;

std::string type_text(PluginFieldType type) {
  switch (type) {
    case PluginFieldType::kFLOAT32:
      return "FLOAT32";
    case PluginFieldType::kINT32:
      return "INT32";
    case PluginFieldType::kINT64:
      return "INT64";
    case PluginFieldType::kCHAR:
      return "CHAR";
    default:
      return "PluginFieldType " + std::to_string(static_cast<int32_t>(type));
  }
}

template <class T>
T read_one(PluginField const& field) {
  if (field.length != 1 || field.data == nullptr) {
    throw Refusal(std::string("attribute ") + field.name + " has " + std::to_string(field.data == nullptr ? 0 : field.length) +
                  " values; allowed is one");
  }
  T value;
  std::memcpy(&value, field.data, sizeof value);
  return value;
}

int32_t read_integer(PluginField const& field) {
  int64_t const value = field.type == PluginFieldType::kINT64 ? read_one<int64_t>(field) : read_one<int32_t>(field);
  if (value < std::numeric_limits<int32_t>::min() || value > std::numeric_limits<int32_t>::max()) {
    throw Refusal(std::string("attribute ") + field.name + " is " + std::to_string(value) + "; allowed is what fits into 32 bits");
  }
  return static_cast<int32_t>(value);
}

// The parser counts a closing NUL in, others do not.
std::string read_text(PluginField const& field) {
  if (field.data == nullptr || field.length <= 0) {
    return {};
  }
  char const* const begin = static_cast<char const*>(field.data);
  return {begin, std::find(begin, begin + field.length, '\0')};
}

std::string names_text(std::vector<Field> const& declared) {
  std::string text;
  for (Field const& field : declared) {
    text += (text.empty() ? "" : ", ") + std::string(field.name);
  }
  return text;
}

bool is_type_allowed(Field const& declared, PluginFieldType type) {
  return type == declared.type || (declared.type == PluginFieldType::kINT32 && type == PluginFieldType::kINT64);
}

std::variant<float, int32_t, std::string> read_value(Field const& declared, PluginField const& field) {
  if (!is_type_allowed(declared, field.type)) {
    throw Refusal(std::string("attribute ") + field.name + " is of type " + type_text(field.type) + "; allowed is " +
                  type_text(declared.type) + (declared.type == PluginFieldType::kINT32 ? " or INT64" : ""));
  }
  switch (declared.type) {
    case PluginFieldType::kFLOAT32:
      return read_one<float>(field);
    case PluginFieldType::kINT32:
      return read_integer(field);
    default:
      return read_text(field);
  }
}

std::variant<float, int32_t, std::string> default_value(Field const& declared) {
  switch (declared.type) {
    case PluginFieldType::kFLOAT32:
      return 0.0F;
    case PluginFieldType::kINT32:
      return 0;
    default:
      return std::string();
  }
}

[[noreturn]] void throw_wrong_number(char const* name, float number, char const* allowed) {
  std::ostringstream message;
  message << "attribute " << name << " is " << number << "; allowed is " << allowed;
  throw Refusal(message.str());
}

struct Bytes {
  void const* data;
  int32_t length;
};

Bytes bytes_of(std::variant<float, int32_t, std::string> const& value) {
  if (auto const* text = std::get_if<std::string>(&value)) {
    return {text->data(), static_cast<int32_t>(text->size())};
  }
  auto const* number = std::get_if<float>(&value);
  return {number != nullptr ? static_cast<void const*>(number) : std::get_if<int32_t>(&value), 1};
}

}  // namespace

Attributes::Attributes(std::vector<Field> const& declared, nvinfer1::PluginFieldCollection const* given) : declared_(declared) {
  std::vector<bool> is_given(declared.size(), false);
  for (Field const& field : declared) {
    values_.push_back(default_value(field));
  }
  for (int32_t i = 0; given != nullptr && i < given->nbFields; ++i) {
    PluginField const& field = given->fields[i];
    auto const match = std::find_if(declared.begin(), declared.end(), [&](Field const& f) { return std::strcmp(f.name, field.name) == 0; });
    if (match == declared.end()) {
      throw Refusal(std::string("unknown attribute ") + field.name + "; allowed are " + names_text(declared));
    }
    size_t const index = match - declared.begin();
    if (is_given[index]) {
      throw Refusal(std::string("attribute ") + field.name + " is given twice");
    }
    values_[index] = read_value(*match, field);
    is_given[index] = true;
  }
  for (size_t i = 0; i < declared.size(); ++i) {
    if (!is_given[i] && !declared[i].is_optional) {
      throw Refusal(std::string("attribute ") + declared[i].name + " is missing");
    }
    Bytes const bytes = bytes_of(values_[i]);
    fields_.emplace_back(declared[i].name, bytes.data, declared[i].type, bytes.length);
  }
  collection_.nbFields = static_cast<int32_t>(fields_.size());
  collection_.fields = fields_.data();
}

Attributes::Value const& Attributes::value(char const* name) const {
  auto const match = std::find_if(declared_.begin(), declared_.end(), [&](Field const& f) { return std::strcmp(f.name, name) == 0; });
  if (match == declared_.end()) {
    throw std::logic_error(std::string(name) + " is not declared");
  }
  return values_[match - declared_.begin()];
}

float Attributes::number(char const* name) const {
  float const number = std::get<float>(value(name));
  if (!std::isfinite(number)) {
    throw_wrong_number(name, number, "a finite number");
  }
  return number;
}

float Attributes::non_negative(char const* name) const {
  float const number = Attributes::number(name);
  if (number < 0.0F) {
    throw_wrong_number(name, number, "0 or a positive number");
  }
  return number;
}

int32_t Attributes::integer(char const* name) const { return std::get<int32_t>(value(name)); }

std::string const& Attributes::text(char const* name) const { return std::get<std::string>(value(name)); }

}  // namespace trtbert
