// Text, or a file -> its JSON.
#pragma once

#include <filesystem>
#include <string_view>

#include "json/fields.h"

namespace trtbert {

// Throws std::invalid_argument that says why it is no JSON, or that it is nested too deep: whoever goes down into what this gives may do
// it by recursion.
Json parse_json(std::string_view text);

// Throws Error (kPackage) when the file cannot be read or parsed.
Json read_json(std::filesystem::path const& file);

}  // namespace trtbert
