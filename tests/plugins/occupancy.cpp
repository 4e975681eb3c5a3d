// Reads lines "capability warps blocks shared reserved threads registers bytes", writes the resident blocks that NVIDIA's own
// cuda_occupancy.h computes.
#include <cuda_occupancy.h>

#include <climits>
#include <cstdio>

int main() {
  int capability, warps, blocks, threads, registers;
  size_t shared, reserved, bytes;
  while (std::scanf("%d %d %d %zu %zu %d %d %zu", &capability, &warps, &blocks, &shared, &reserved, &threads, &registers, &bytes) == 8) {
    cudaOccDeviceProp gpu{};
    gpu.computeMajor = capability / 10;
    gpu.computeMinor = capability % 10;
    gpu.maxThreadsPerBlock = 1024;
    gpu.maxThreadsPerMultiprocessor = warps * 32;
    gpu.regsPerBlock = gpu.regsPerMultiprocessor = 65536;
    gpu.warpSize = 32;
    gpu.sharedMemPerBlock = 48 << 10;
    gpu.sharedMemPerMultiprocessor = shared;
    gpu.numSms = 1;
    gpu.sharedMemPerBlockOptin = shared - reserved;
    gpu.reservedSharedMemPerBlock = reserved;
    cudaOccFuncAttributes kernel{};
    kernel.maxThreadsPerBlock = INT_MAX;
    kernel.numRegs = registers;
    kernel.sharedSizeBytes = bytes;
    cudaOccDeviceState state{};
    state.carveoutConfig = SHAREDMEM_CARVEOUT_MAX_SHARED;
    cudaOccResult result{};
    cudaOccError const error = cudaOccMaxActiveBlocksPerMultiprocessor(&result, &gpu, &kernel, &state, threads, 0);
    std::printf("%d %d\n", error, error == CUDA_OCC_SUCCESS ? result.activeBlocksPerMultiprocessor : -1);
  }
}
