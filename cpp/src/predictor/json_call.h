// A request as JSON -> the answers as JSON.
#pragma once

#include <string>
#include <string_view>

#include "trtbert/predictor.h"

namespace trtbert {

std::string json_call(Predictor const& predictor, std::string_view request, RequestLimits const& limits);

}  // namespace trtbert
