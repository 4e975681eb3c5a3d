// The plugin library that an engine was built with: where it lies, and whether it is the right one.
#pragma once

#include <filesystem>

#include "trtbert/package.h"

namespace trtbert {

// What TRTBERT_PLUGINS names, else the first found in the package and in the system's folders.
// Throws Error: kMissingRuntime where there is none, kPackage where its sha256 is not the one in the manifest.
std::filesystem::path checked_plugins(Package const& package);

}  // namespace trtbert
