// The element types of the kernels.
#pragma once

#include <cstdint>

namespace trtbert {

enum class DType : int32_t { kFloat32 = 0, kFloat16 = 1, kBFloat16 = 2 };

}  // namespace trtbert
