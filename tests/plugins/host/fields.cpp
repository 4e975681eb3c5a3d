// Plugin fields with storage of their own.
#include "fields.h"

#include "check.h"

namespace host {
namespace {

using nvinfer1::PluginFieldType;

size_t element_size(PluginFieldType type) {
  switch (type) {
    case PluginFieldType::kCHAR:
      return 1;
    case PluginFieldType::kFLOAT32:
    case PluginFieldType::kINT32:
      return 4;
    case PluginFieldType::kINT64:
    case PluginFieldType::kFLOAT64:
      return 8;
    default:
      throw Failure("a field is of type " + std::to_string(static_cast<int32_t>(type)) + ", which the host does not know");
  }
}

}  // namespace

Fields::Fields(std::vector<Attribute> const& attributes, bool is_wide) {
  for (Attribute const& attribute : attributes) {
    if (auto const* number = std::get_if<float>(&attribute.value)) {
      add(attribute.name, PluginFieldType::kFLOAT32, number, 1);
    } else if (auto const* text = std::get_if<std::string>(&attribute.value)) {
      add(attribute.name, PluginFieldType::kCHAR, text->c_str(), static_cast<int32_t>(text->size()) + (is_wide ? 0 : 1));
    } else if (int64_t const wide = std::get<int32_t>(attribute.value); is_wide) {
      add(attribute.name, PluginFieldType::kINT64, &wide, 1);
    } else {
      add(attribute.name, PluginFieldType::kINT32, &std::get<int32_t>(attribute.value), 1);
    }
  }
}

Fields::Fields(nvinfer1::PluginFieldCollection const& fields) {
  for (int32_t i = 0; i < fields.nbFields; ++i) {
    add(fields.fields[i].name, fields.fields[i].type, fields.fields[i].data, fields.fields[i].length);
  }
}

void Fields::add(std::string const& name, PluginFieldType type, void const* data, int32_t length) {
  auto const* const begin = static_cast<char const*>(data);
  std::string const& kept_name = names_.emplace_back(name);
  std::vector<char> const& kept_data = data_.emplace_back(begin, begin + length * element_size(type));
  fields_.emplace_back(kept_name.c_str(), kept_data.data(), type, length);
}

nvinfer1::PluginFieldCollection const* Fields::collection() {
  collection_.nbFields = static_cast<int32_t>(fields_.size());
  collection_.fields = fields_.data();
  return &collection_;
}

}  // namespace host
