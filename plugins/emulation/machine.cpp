// The fibers, barriers and warp collectives of machine.h, on x86-64.
#include "machine.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

// This file itself is never instrumented: what it does for all threads is no part of what they do.
#if defined(TRTBERT_THREAD_SANITIZER)
#include <sanitizer/tsan_interface.h>
#else
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
constexpr int kPoison = 0xFF;          // NaN in every float type
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

// Orders what is before and after a meeting of threads, for ThreadSanitizer. Its two addresses are apart, so that what a thread does
// after the meeting, on its way to the next, is not ordered with what others do that leave later.
struct Meeting {
  char arrivals = 0;
  char departures = 0;

  void arrive() { __tsan_release(&arrivals); }
  void complete() {
    __tsan_acquire(&arrivals);
    __tsan_release(&departures);
  }
  void leave() { __tsan_acquire(&departures); }
};

struct Warp {
  Meeting meetings[2];  // in turn: the first lanes arrive at the next before the last have left this one
  unsigned turn = 0;
  unsigned arrived = 0;
  unsigned mask = 0;
  char const* operation = "";
  void* deposits[kWarpSize] = {};
};

// The threads that may run, in a ring as long as there are threads: nothing is allocated while they run.
class Ready {
 public:
  void reset(size_t capacity) {
    ring_.assign(capacity, nullptr);
    first_ = size_ = 0;
  }
  bool is_empty() const { return size_ == 0; }
  void push(Fiber* fiber) { at(size_++) = fiber; }
  Fiber* pop_first() {
    Fiber* fiber = at(0);
    first_ = (first_ + 1) % ring_.size();
    --size_;
    return fiber;
  }
  Fiber* pop_last() { return at(--size_); }
  Fiber* pop_any(uint64_t number) {
    std::swap(at(number % size_), at(size_ - 1));
    return pop_last();
  }

 private:
  Fiber*& at(size_t i) { return ring_[(first_ + i) % ring_.size()]; }
  std::vector<Fiber*> ring_;
  size_t first_ = 0, size_ = 0;
};

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

struct Shared {
  std::unique_ptr<void, Free> memory;
  char* start;
  size_t bytes;
};

struct Machine {
  dim3 grid, block;
  uint3 block_index{};
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  Ready ready;
  std::map<void const*, Shared> shared;
  Fiber* current = nullptr;
  void* scheduler_stack = nullptr;
  void* scheduler_tsan = nullptr;
  std::function<void()> const* body = nullptr;
  Schedule schedule = Schedule::kInOrder;
  uint64_t seed = 1;
  Meeting barrier;
  Meeting start, end;  // of a block
};

Machine machine;

uint64_t random_number() {
  machine.seed ^= machine.seed << 13;
  machine.seed ^= machine.seed >> 7;
  machine.seed ^= machine.seed << 17;
  return machine.seed;
}

__attribute__((noinline)) void to_scheduler() {
  Fiber* self = machine.current;
  __tsan_switch_to_fiber(machine.scheduler_tsan, kNoSwitchSync);
  emulation_switch(&self->stack_pointer, machine.scheduler_stack);
}

__attribute__((noinline)) void run(Fiber* fiber) {
  machine.current = fiber;
  __tsan_switch_to_fiber(fiber->tsan, kNoSwitchSync);
  emulation_switch(&machine.scheduler_stack, fiber->stack_pointer);
  machine.current = nullptr;
}

__attribute__((noinline)) void fiber_main() {
  machine.start.leave();
  (*machine.body)();
  machine.current->state = State::kDone;
  machine.end.arrive();
  to_scheduler();
  fail("a finished thread was resumed");
}

void make_ready(Fiber* fiber) {
  fiber->state = State::kReady;
  machine.ready.push(fiber);
}

void prepare_stacks(size_t count) {
  if (machine.fibers.size() == count) return;
  for (Fiber& fiber : machine.fibers) {
    munmap(fiber.stack, kStackBytes);
    __tsan_destroy_fiber(fiber.tsan);
  }
  machine.fibers.assign(count, Fiber{});
  for (Fiber& fiber : machine.fibers) {
    fiber.stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fiber.stack == MAP_FAILED) fail("no memory for the stacks of a block");
    fiber.tsan = __tsan_create_fiber(0);
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
}

void make_all_ready() {
  bool const is_reversed = machine.schedule == Schedule::kReversed;
  size_t const count = machine.fibers.size();
  for (size_t i = 0; i < count; ++i) make_ready(&machine.fibers[is_reversed ? count - 1 - i : i]);
}

Fiber* next_ready() {
  switch (machine.schedule) {
    case Schedule::kRandom:
      return machine.ready.pop_any(random_number());
    case Schedule::kDepthFirst:
      return machine.ready.pop_last();
    default:
      return machine.ready.pop_first();
  }
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
  machine.ready.reset(count);
  machine.warps.assign((count + kWarpSize - 1) / kWarpSize, Warp{});
  machine.scheduler_tsan = __tsan_get_current_fiber();
  for (auto& [key, shared] : machine.shared) std::memset(shared.start, kPoison, shared.bytes);
  for (size_t i = 0; i < count; ++i) start(machine.fibers[i], static_cast<unsigned>(i));
  machine.start.complete();
  do {
    make_all_ready();
    while (!machine.ready.is_empty()) run(next_ready());
    machine.barrier.complete();
  } while (!is_finished_at_barrier());
  machine.end.complete();
}

void meet(unsigned mask, char const* operation, bool orders_memory, void* deposit, void (*work)(unsigned, void* const*)) {
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
  Meeting& meeting = warp.meetings[warp.turn];
  if (orders_memory) meeting.arrive();
  if (warp.arrived != mask) {
    self->state = State::kAtCollective;
    to_scheduler();
    if (orders_memory) meeting.leave();
    return;
  }
  work(mask, warp.deposits);
  if (orders_memory) {
    meeting.complete();
    meeting.leave();
  }
  warp.arrived = 0;
  warp.turn ^= 1;
  unsigned const first = self->thread.warp() * kWarpSize;
  for (unsigned other = 0; other < kWarpSize; ++other) {
    if ((mask >> other & 1) != 0 && other != lane) make_ready(&machine.fibers[first + other]);
  }
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
    // To ThreadSanitizer it is the scheduler that allocates: the thread that asks first is not to be ordered with the others.
    __tsan_switch_to_fiber(machine.scheduler_tsan, kNoSwitchSync);
    // Aligned as it asks and no better: what relies on more shows under UndefinedBehaviorSanitizer.
    void* memory = nullptr;
    if (posix_memalign(&memory, std::max<size_t>(2 * alignment, sizeof(void*)), alignment + bytes) != 0)
      fail("no memory for shared memory");
    char* start = static_cast<char*>(memory) + alignment;
    std::memset(start, kPoison, bytes);
    found = machine.shared.emplace(key, Shared{std::unique_ptr<void, Free>(memory), start, bytes}).first;
    __tsan_release(&machine.shared);
    __tsan_switch_to_fiber(machine.current->tsan, kNoSwitchSync);
  }
  __tsan_acquire(&machine.shared);
  return found->second.start;
}

bool is_shared(void const* pointer) {
  auto const* byte = static_cast<char const*>(pointer);
  return std::any_of(machine.shared.begin(), machine.shared.end(), [byte](auto const& entry) {
    char const* start = entry.second.start;
    return byte >= start && byte < start + entry.second.bytes;
  });
}

void barrier(char const* site) {
  machine.current->state = State::kAtBarrier;
  machine.current->site = site;
  machine.barrier.arrive();
  to_scheduler();
  machine.barrier.leave();
}

void collective(unsigned mask, char const* operation, void* deposit, void (*work)(unsigned, void* const*)) {
  meet(mask, operation, false, deposit, work);
}

void warp_barrier(unsigned mask) {
  meet(mask, "__syncwarp", true, nullptr, [](unsigned, void* const*) {});
}

}  // namespace emulation

void emulation_set_schedule(int32_t schedule, uint64_t seed) {
  emulation::machine.schedule = static_cast<emulation::Schedule>(schedule);
  emulation::machine.seed = seed == 0 ? 1 : seed;
}
