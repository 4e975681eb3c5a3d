// Opens a package folder: nothing that the manifest does not list is read, and nothing outside the folder.
#include "trtbert/package.h"

#include <algorithm>
#include <sstream>

#include "json/read.h"
#include "manifest.h"
#include "paths.h"
#include "sha256.h"

namespace trtbert {
namespace {

namespace fs = std::filesystem;
constexpr char kManifest[] = "manifest.json";

[[noreturn]] void refuse(std::string const& message) { throw Error(ErrorKind::kPackage, message); }

std::string quoted(std::string const& text) { return Json(text).dump(-1, ' ', true, Json::error_handler_t::replace); }

bool is_plain_name(std::string const& name) {
  if (name.empty() || name.front() == '/' || name.find('\\') != std::string::npos || name.find('\0') != std::string::npos) {
    return false;
  }
  std::istringstream parts(name);
  for (std::string part; std::getline(parts, part, '/');) {
    if (part == "." || part == "..") {
      return false;
    }
  }
  return true;
}

bool is_inside(fs::path const& file, fs::path const& folder) {
  std::error_code code;
  fs::path const whole = fs::canonical(file, code), root = fs::canonical(folder, code);
  return !root.empty() && std::mismatch(root.begin(), root.end(), whole.begin(), whole.end()).first == root.end();
}

void check_file(fs::path const& folder, std::string const& name, std::string const& sha256, bool check_hash) {
  if (!is_plain_name(name)) {
    refuse(std::string(kManifest) + " of " + folder.string() + " names the file " + quoted(name) +
           "; only plain relative names inside the folder are allowed.");
  }
  fs::path const file = folder / name;
  if (!is_file(file)) {
    refuse(folder.string() + " is incomplete: the file " + quoted(name) + " is missing. Copy the whole folder, or compile again.");
  }
  if (!is_inside(file, folder)) {
    refuse(quoted(name) + " in " + folder.string() + " is a link that leads out of the folder. Copy the file itself into the package.");
  }
  if (check_hash && sha256_of(file) != sha256) {
    refuse(quoted(name) + " in " + folder.string() + " was altered: its sha256 is not the one in " + kManifest +
           ". Compile the package again.");
  }
}

void check_is_listed(std::string const& name, Manifest const& manifest, fs::path const& folder) {
  if (manifest.files.count(name) == 0) {
    refuse((folder / kManifest).string() + " does not list " + quoted(name) + " among its files. Compile the package again.");
  }
}

}  // namespace

Package Package::open(fs::path const& folder, bool check_hashes) {
  if (!is_folder(folder)) {
    refuse(folder.string() + " is no package: there is no such folder. Give a folder that `trtbert compile` wrote.");
  }
  fs::path const file = folder / kManifest;
  if (!is_file(file)) {
    refuse(folder.string() + " is no package: it holds no " + kManifest + ". Give a folder that `trtbert compile` wrote.");
  }
  Json const json = read_json(file);
  Manifest manifest = read_manifest(Field(json, file.string(), ErrorKind::kPackage));
  for (auto const& [name, sha256] : manifest.files) {
    check_file(folder, name, sha256, check_hashes);
  }
  check_is_listed(manifest.tokenizer_file, manifest, folder);
  if (manifest.engine) {
    check_is_listed(*manifest.engine, manifest, folder);
  }
  return Package(folder, std::move(manifest));
}

fs::path Package::engine_path() const {
  if (!manifest_.engine) {
    throw Error(ErrorKind::kMissingRuntime, folder_.string() + " is a build kit for " + manifest_.target +
                                                ", with no engine yet. On a machine with that GPU and " + manifest_.runtime +
                                                ": trtbert build " + folder_.string() + " -o PKG");
  }
  return folder_ / *manifest_.engine;
}

}  // namespace trtbert
