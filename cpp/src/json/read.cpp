// Depth is counted while the text is read, so that what is too deep is never made.
#include "json/read.h"

#include <fstream>
#include <sstream>
#include <stdexcept>

namespace trtbert {

Json parse_json(std::string_view text) {
  constexpr int kMaxDepth = 32;  // A package has 5, and 2 more for each Sequence in another.
  auto const check_depth = [](int depth, Json::parse_event_t, Json const&) {
    if (depth > kMaxDepth) {
      throw std::invalid_argument("it is nested deeper than " + std::to_string(kMaxDepth) + " levels");
    }
    return true;
  };
  try {
    return Json::parse(text, check_depth);
  } catch (Json::exception const& error) {
    throw std::invalid_argument(error.what());
  }
}

Json read_json(std::filesystem::path const& file) {
  std::ifstream stream(file, std::ios::binary);
  std::ostringstream bytes;
  bytes << stream.rdbuf();
  if (!stream) {
    throw Error(ErrorKind::kPackage, file.string() + " cannot be read.");
  }
  try {
    return parse_json(bytes.str());
  } catch (std::invalid_argument const& error) {
    throw Error(ErrorKind::kPackage, file.string() + " cannot be read as JSON: " + error.what() + ". Compile the package again.");
  }
}

}  // namespace trtbert
