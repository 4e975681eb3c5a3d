// Reads the whole file first: nlohmann's parser is faster on memory.
#include "json/read.h"

#include <fstream>
#include <sstream>

namespace trtbert {

Json read_json(std::filesystem::path const& file) {
  std::ifstream stream(file, std::ios::binary);
  std::ostringstream bytes;
  bytes << stream.rdbuf();
  if (!stream) {
    throw Error(ErrorKind::kPackage, file.string() + " cannot be read.");
  }
  try {
    return Json::parse(bytes.str());
  } catch (Json::exception const& error) {
    throw Error(ErrorKind::kPackage, file.string() + " cannot be read as JSON: " + error.what() + ". Compile the package again.");
  }
}

}  // namespace trtbert
