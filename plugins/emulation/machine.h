// A CUDA block on the CPU: one fiber per CUDA thread, all on one OS thread, scheduled as the caller says.
//
// Blocks of a grid run one after another. A fiber runs until it waits at a barrier or at a warp collective, so that a missing
// barrier shows as different bits under another schedule, and as a data race under -fsanitize=thread. What is undefined in CUDA
// (threads at different barriers, lanes that disagree on a mask, a shuffle from a lane outside it, a deadlock) ends the process
// with a message and exit status 86.
#pragma once

#include <vector_types.h>

#include <cstddef>
#include <cstdint>
#include <functional>

namespace emulation {

constexpr int kFailure = 86;
constexpr unsigned kWarpSize = 32;

enum class Schedule : int32_t { kInOrder = 0, kReversed = 1, kDepthFirst = 2, kRandom = 3 };

// What the running fiber sees of itself.
struct Thread {
  uint3 index;
  unsigned linear;
  unsigned lane() const { return linear % kWarpSize; }
  unsigned warp() const { return linear / kWarpSize; }
};

Thread const& thread();
uint3 const& block_index();
dim3 const& block_size();
dim3 const& grid_size();

// Run `body` once for each thread of each block.
void launch(dim3 grid, dim3 block, std::function<void()> const& body);

// The memory that all threads of the block which ask for the same key share: `bytes` long, poisoned when the block starts.
void* shared(void const* key, size_t bytes, size_t alignment);

// Whether `pointer` is into memory that `shared` gave.
bool is_shared(void const* pointer);

// __syncthreads(); `site` is where it stands in the source.
void barrier(char const* site);

// Wait until every lane of `mask` called with the same operation and mask; the last one runs `work` on what each lane deposited
// (by lane, null outside the mask) before all go on. As in CUDA this orders no accesses to memory, which ThreadSanitizer is told.
void collective(unsigned mask, char const* operation, void* deposit, void (*work)(unsigned mask, void* const* deposits));

// __syncwarp(), which orders them.
void warp_barrier(unsigned mask);

// Of `work` and what it calls: it reaches into the threads that wait.
#define EMULATION_FOR_ALL_LANES __attribute__((no_sanitize_thread))

[[noreturn]] void fail(char const* message);

}  // namespace emulation

extern "C" void emulation_set_schedule(int32_t schedule, uint64_t seed);
