// By ICU, in no language.
#include "text/lower.h"

#include <unicode/ucasemap.h>

#include <memory>
#include <stdexcept>

namespace trtbert {

std::string lower_case_of(std::string_view text) {
  UErrorCode error = U_ZERO_ERROR;
  std::unique_ptr<UCaseMap, decltype(&ucasemap_close)> const map(ucasemap_open("", 0, &error), ucasemap_close);
  std::string lowered(text.size() * 3, '\0');
  int32_t const size = ucasemap_utf8ToLower(map.get(), lowered.data(), static_cast<int32_t>(lowered.size()), text.data(),
                                            static_cast<int32_t>(text.size()), &error);
  if (U_FAILURE(error)) {
    throw std::runtime_error(std::string("ICU: ") + u_errorName(error));
  }
  lowered.resize(static_cast<size_t>(size));
  return lowered;
}

}  // namespace trtbert
