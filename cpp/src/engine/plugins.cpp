// Looks where the Python package looks, but for Python's own folders.
#include "engine/plugins.h"

#include <cstdlib>

#include "paths.h"
#include "sha256.h"
#include "trtbert/error.h"

namespace trtbert {
namespace {

namespace fs = std::filesystem;

fs::path find(Package const& package) {
  constexpr char kLibrary[] = "libtrtbert_plugins.so";
  if (char const* const named = std::getenv("TRTBERT_PLUGINS"); named != nullptr && *named != '\0') {
    if (!is_file(named)) {
      throw Error(ErrorKind::kMissingRuntime, std::string("TRTBERT_PLUGINS is \"") + named +
                                                  "\", and there is no such file; set it to the path of a " + kLibrary + ".");
    }
    return named;
  }
  for (fs::path const& folder : {package.folder(), fs::path("/usr/local/lib"), fs::path("/usr/local/lib64"), fs::path("/usr/lib")}) {
    if (is_file(folder / kLibrary)) {
      return folder / kLibrary;
    }
  }
  throw Error(ErrorKind::kMissingRuntime, std::string("The engine needs TensorRT's plugins of trtbert, and there is no ") + kLibrary +
                                              " in " + package.folder().string() +
                                              ", /usr/local/lib or /usr/lib. Set TRTBERT_PLUGINS to where it lies.");
}

}  // namespace

fs::path checked_plugins(Package const& package) {
  PluginLibrary const& facts = *package.manifest().plugins;
  fs::path const path = find(package);
  if (sha256_of(path) != facts.sha256) {
    throw Error(ErrorKind::kPackage,
                path.string() + " is not the " + facts.name + " " + facts.version +
                    " that the engine was built with: its sha256 is another. Unset TRTBERT_PLUGINS to take the package's "
                    "own, or compile the package again.");
  }
  std::error_code code;  // Where the current folder is gone.
  fs::path const whole = fs::absolute(path, code);
  return code ? path : whole;
}

}  // namespace trtbert
