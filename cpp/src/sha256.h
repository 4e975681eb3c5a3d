// The sha256 of a file.
#pragma once

#include <filesystem>
#include <string>

namespace trtbert {

// 64 hexadecimal digits; throws Error (kPackage) when the file cannot be read.
std::string sha256_of(std::filesystem::path const& file);

}  // namespace trtbert
