// Calls an installed library: prints its version, and what it says to a tensor without rows.
#include <trtbert/capi.h>

#include <cstdio>

int main() {
  trtbert::BiasGeluParams params{};
  params.width = 8;
  std::printf("%s %d\n", trtbert_plugins_version(),
              trtbert_fused_bias_gelu(static_cast<int32_t>(trtbert::DType::kFloat16), &params, nullptr));
}
