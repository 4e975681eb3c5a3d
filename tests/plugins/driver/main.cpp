// kernel_driver [SCHEDULE [SEED [OP...]]]: runs the cases under one schedule of the emulation, of all ops or of these.
#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "cases.h"

extern "C" {

void emulation_set_schedule(int32_t schedule, uint64_t seed);

// The threads of a block are fibers, whose stacks AddressSanitizer must not move to the heap.
char const* __asan_default_options() { return "detect_stack_use_after_return=0"; }
char const* __tsan_default_options() { return "halt_on_error=1"; }

}  // extern "C"

namespace {

std::vector<std::string> ops;

[[noreturn]] void fail(std::string const& name, int32_t error, int32_t expected) {
  std::fprintf(stderr, "%s: the launcher returned %d, not %d\n", name.c_str(), error, expected);
  std::exit(1);
}

}  // namespace

bool is_asked_for(std::string const& name) {
  auto is_of = [&](std::string const& op) { return name.compare(0, op.size() + 1, op + " ") == 0; };
  return ops.empty() || std::any_of(ops.begin(), ops.end(), is_of);
}

void report(std::string const& name, int32_t error, Tensor const& y) {
  expect_error(name, error, 0);
  std::printf("%s %016" PRIx64 "\n", name.c_str(), y.hash());
}

void expect_error(std::string const& name, int32_t error, int32_t expected) {
  if (error != expected) fail(name, error, expected);
}

std::string name_of(trtbert::DType dtype) {
  return dtype == trtbert::DType::kFloat32 ? "fp32" : dtype == trtbert::DType::kFloat16 ? "fp16" : "bf16";
}

int main(int argc, char** argv) {
  int32_t const schedule = argc > 1 ? std::atoi(argv[1]) : 0;
  uint64_t const seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  emulation_set_schedule(schedule, seed);
  for (int i = 3; i < argc; ++i) ops.push_back(argv[i]);
  run_gelu_cases();
  run_layer_norm_cases();
  run_attention_cases();
  run_refusals();
  return 0;
}
