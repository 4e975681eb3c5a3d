// Looks where the Python package looks, but for Python's own folders.
#include "engine/plugins.h"

#include <cstdlib>

#include "sha256.h"
#include "trtbert/error.h"

namespace trtbert {
namespace {

namespace fs = std::filesystem;

fs::path find(Package const& package) {
  constexpr char kLibrary[] = "libtrtbert_plugins.so";
  if (char const* const named = std::getenv("TRTBERT_PLUGINS"); named != nullptr && *named != '\0') {
    if (!fs::is_regular_file(named)) {
      throw Error(ErrorKind::kMissingRuntime, std::string("TRTBERT_PLUGINS is \"") + named +
                                                  "\", and there is no such file; set it to the path of a " + kLibrary + ".");
    }
    return named;
  }
  for (fs::path const& folder : {package.folder(), fs::path("/usr/local/lib"), fs::path("/usr/local/lib64"), fs::path("/usr/lib")}) {
    if (fs::is_regular_file(folder / kLibrary)) {
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
  return fs::absolute(path);
}

}  // namespace trtbert
