// A file -> its JSON.
#pragma once

#include <filesystem>
#include <string>

#include "json/fields.h"

namespace trtbert {

// Throws Error (kPackage) when the file cannot be read or is no JSON.
Json read_json(std::filesystem::path const& file);

}  // namespace trtbert
