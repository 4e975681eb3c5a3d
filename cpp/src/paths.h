// What lies at a path: nothing where it cannot be looked at, such as at a name that is too long for the system.
#pragma once

#include <filesystem>

namespace trtbert {

inline bool is_folder(std::filesystem::path const& path) {
  std::error_code code;
  return std::filesystem::is_directory(path, code);
}

inline bool is_file(std::filesystem::path const& path) {
  std::error_code code;
  return std::filesystem::is_regular_file(path, code);
}

}  // namespace trtbert
