// The fibers, barriers and warp collectives of machine.h, on x86-64.
#include "machine.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#define UNINSTRUMENTED __attribute__((no_sanitize_thread, noinline))
#else
#define UNINSTRUMENTED __attribute__((noinline))
inline void* __tsan_create_fiber(unsigned) { return nullptr; }
inline void* __tsan_get_current_fiber() { return nullptr; }
inline void __tsan_destroy_fiber(void*) {}
inline void __tsan_switch_to_fiber(void*, unsigned) {}
inline void __tsan_acquire(void*) {}
inline void __tsan_release(void*) {}
#endif

// Save the callee-saved registers on this stack, leave its pointer in *from, and go on with the stack `to`.
extern "C" void emulation_switch(void** from, void* to);
asm(R"(.text
.type emulation_switch,@function
emulation_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
)");

namespace emulation {
namespace {

constexpr size_t kStackBytes = 256 * 1024;
constexpr unsigned kNoSwitchSync = 1;  // of ThreadSanitizer: a switch of fibers orders nothing

enum class State { kReady, kAtBarrier, kAtCollective, kDone };

struct Fiber {
  Thread thread{};
  State state = State::kReady;
  void* stack = nullptr;
  void* stack_pointer = nullptr;
  void* tsan = nullptr;
  char const* site = "";
};

struct Warp {
  unsigned arrived = 0;
  unsigned mask = 0;
  char const* operation = "";
  void* deposits[kWarpSize] = {};
};

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

struct Shared {
  std::unique_ptr<void, Free> memory;
  size_t bytes;
};

struct Machine {
  dim3 grid, block;
  uint3 block_index{};
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  std::deque<Fiber*> ready;
  std::map<void const*, Shared> shared;
  Fiber* current = nullptr;
  void* scheduler_stack = nullptr;
  void* scheduler_tsan = nullptr;
  std::function<void()> const* body = nullptr;
  Schedule schedule = Schedule::kInOrder;
  uint64_t seed = 1;
  char barrier_order = 0;  // its address orders what is before and after a barrier, for ThreadSanitizer
  char block_order = 0;
};

Machine machine;

uint64_t random_number() {
  machine.seed ^= machine.seed << 13;
  machine.seed ^= machine.seed >> 7;
  machine.seed ^= machine.seed << 17;
  return machine.seed;
}

UNINSTRUMENTED void to_scheduler() {
  Fiber* self = machine.current;
  __tsan_switch_to_fiber(machine.scheduler_tsan, kNoSwitchSync);
  emulation_switch(&self->stack_pointer, machine.scheduler_stack);
}

UNINSTRUMENTED void run(Fiber* fiber) {
  machine.current = fiber;
  __tsan_switch_to_fiber(fiber->tsan, kNoSwitchSync);
  emulation_switch(&machine.scheduler_stack, fiber->stack_pointer);
  machine.current = nullptr;
}

UNINSTRUMENTED void fiber_main() {
  (*machine.body)();
  machine.current->state = State::kDone;
  __tsan_release(&machine.block_order);
  to_scheduler();
  fail("a finished thread was resumed");
}

void make_ready(Fiber* fiber) {
  fiber->state = State::kReady;
  machine.ready.push_back(fiber);
}

void prepare_stacks(size_t count) {
  if (machine.fibers.size() == count) return;
  for (Fiber& fiber : machine.fibers) munmap(fiber.stack, kStackBytes);
  machine.fibers.assign(count, Fiber{});
  for (Fiber& fiber : machine.fibers) {
    fiber.stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fiber.stack == MAP_FAILED) fail("no memory for the stacks of a block");
  }
}

void start(Fiber& fiber, unsigned linear) {
  dim3 const& size = machine.block;
  fiber.thread = {{linear % size.x, linear / size.x % size.y, linear / (size.x * size.y)}, linear};
  auto** top = reinterpret_cast<void**>(static_cast<char*>(fiber.stack) + kStackBytes - 64);
  *--top = nullptr;  // the return address of fiber_main, which never returns
  *--top = reinterpret_cast<void*>(fiber_main);
  for (int saved_register = 0; saved_register < 6; ++saved_register) *--top = nullptr;
  fiber.stack_pointer = top;
  fiber.tsan = __tsan_create_fiber(0);
}

void make_all_ready() {
  bool const is_reversed = machine.schedule == Schedule::kReversed;
  size_t const count = machine.fibers.size();
  for (size_t i = 0; i < count; ++i) make_ready(&machine.fibers[is_reversed ? count - 1 - i : i]);
}

Fiber* next_ready() {
  std::deque<Fiber*>& ready = machine.ready;
  if (machine.schedule == Schedule::kRandom) std::swap(ready[random_number() % ready.size()], ready.back());
  bool const is_last_first = machine.schedule == Schedule::kRandom || machine.schedule == Schedule::kDepthFirst;
  Fiber* fiber = is_last_first ? ready.back() : ready.front();
  is_last_first ? ready.pop_back() : ready.pop_front();
  return fiber;
}

// Every thread of the block waits at one barrier, or has ended (then true); anything else fails.
bool is_finished_at_barrier() {
  char const* site = nullptr;
  size_t done = 0;
  for (Fiber& fiber : machine.fibers) {
    machine.current = &fiber;
    if (fiber.state == State::kAtCollective) fail("deadlock: a warp collective that not every lane of its mask reaches");
    if (fiber.state == State::kDone) ++done;
    if (fiber.state != State::kAtBarrier) continue;
    if (site != nullptr && std::strcmp(site, fiber.site) != 0) fail("threads of one block wait at different __syncthreads()");
    site = fiber.site;
  }
  machine.current = nullptr;
  if (site != nullptr && done > 0) fail("some threads have ended while others wait at __syncthreads()");
  return site == nullptr;
}

void run_block() {
  size_t const count = size_t{machine.block.x} * machine.block.y * machine.block.z;
  prepare_stacks(count);
  machine.warps.assign((count + kWarpSize - 1) / kWarpSize, Warp{});
  machine.scheduler_tsan = __tsan_get_current_fiber();
  for (auto& [key, shared] : machine.shared) std::memset(shared.memory.get(), 0xFF, shared.bytes);  // NaN in every float type
  for (size_t i = 0; i < count; ++i) start(machine.fibers[i], static_cast<unsigned>(i));
  __tsan_release(&machine.block_order);
  do {
    make_all_ready();
    while (!machine.ready.empty()) run(next_ready());
  } while (!is_finished_at_barrier());
  __tsan_acquire(&machine.block_order);
  for (Fiber& fiber : machine.fibers) __tsan_destroy_fiber(fiber.tsan);
}

}  // namespace

void fail(char const* message) {
  uint3 const& block = machine.block_index;
  std::fprintf(stderr, "CUDA emulation: %s (block %u,%u,%u", message, block.x, block.y, block.z);
  if (machine.current != nullptr) {
    uint3 const& index = machine.current->thread.index;
    std::fprintf(stderr, ", thread %u,%u,%u, last barrier %s", index.x, index.y, index.z, machine.current->site);
  }
  std::fprintf(stderr, ")\n");
  std::fflush(stderr);
  _exit(kFailure);
}

Thread const& thread() { return machine.current->thread; }
uint3 const& block_index() { return machine.block_index; }
dim3 const& block_size() { return machine.block; }
dim3 const& grid_size() { return machine.grid; }

void launch(dim3 grid, dim3 block, std::function<void()> const& body) {
  machine.grid = grid;
  machine.block = block;
  machine.body = &body;
  machine.shared.clear();
  uint64_t const blocks = uint64_t{grid.x} * grid.y * grid.z;
  for (uint64_t i = 0; i < blocks; ++i) {
    uint64_t const linear = machine.schedule == Schedule::kReversed ? blocks - 1 - i : i;
    machine.block_index = {static_cast<unsigned>(linear % grid.x), static_cast<unsigned>(linear / grid.x % grid.y),
                           static_cast<unsigned>(linear / (uint64_t{grid.x} * grid.y))};
    run_block();
  }
}

void* shared(void const* key, size_t bytes, size_t alignment) {
  auto found = machine.shared.find(key);
  if (found == machine.shared.end()) {
    size_t const boundary = std::max<size_t>(alignment, sizeof(void*));
    void* memory = nullptr;
    if (posix_memalign(&memory, boundary, bytes) != 0) fail("no memory for shared memory");
    std::memset(memory, 0xFF, bytes);
    found = machine.shared.emplace(key, Shared{std::unique_ptr<void, Free>(memory), bytes}).first;
  }
  return found->second.memory.get();
}

void barrier(char const* site) {
  machine.current->state = State::kAtBarrier;
  machine.current->site = site;
  __tsan_release(&machine.barrier_order);
  to_scheduler();
  __tsan_acquire(&machine.barrier_order);
}

void collective(unsigned mask, char const* operation, void* deposit, void (*work)(unsigned, void* const*)) {
  Fiber* self = machine.current;
  unsigned const lane = self->thread.lane();
  Warp& warp = machine.warps[self->thread.warp()];
  if ((mask >> lane & 1) == 0) fail("a lane called a warp collective whose mask leaves it out");
  if (warp.arrived == 0) {
    warp.mask = mask;
    warp.operation = operation;
  } else if (warp.mask != mask || std::strcmp(warp.operation, operation) != 0) {
    fail("lanes of one warp disagree on a collective or its mask");
  }
  warp.arrived |= 1u << lane;
  warp.deposits[lane] = deposit;
  __tsan_release(&warp);
  if (warp.arrived != mask) {
    self->state = State::kAtCollective;
    to_scheduler();
    __tsan_acquire(&warp);
    return;
  }
  __tsan_acquire(&warp);
  work(mask, warp.deposits);
  __tsan_release(&warp);
  warp.arrived = 0;
  unsigned const first = self->thread.warp() * kWarpSize;
  for (unsigned other = 0; other < kWarpSize; ++other) {
    if ((mask >> other & 1) != 0 && other != lane) make_ready(&machine.fibers[first + other]);
  }
}

}  // namespace emulation

void emulation_set_schedule(int32_t schedule, uint64_t seed) {
  emulation::machine.schedule = static_cast<emulation::Schedule>(schedule);
  emulation::machine.seed = seed == 0 ? 1 : seed;
}
