// Kernels with accesses to shared memory whose bank conflicts are known, for test_banks.py.
#include <cuda_fp16.h>
#include <mma.h>

namespace trtbert {

// The lanes of a warp write kPitch floats apart.
template <int kPitch>
__global__ void __launch_bounds__(128) column_kernel(float const* x, float* y) {
  __shared__ float tile[32 * kPitch];
  int const lane = threadIdx.x % 32;
  tile[lane * kPitch + threadIdx.x / 32] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = tile[threadIdx.x];
}

// The lanes of a warp write kPitch bytes apart, 16 bytes each.
template <int kPitch>
__global__ void __launch_bounds__(128) wide_kernel(float4 const* x, float4* y) {
  __shared__ __align__(16) char tile[128 * kPitch];
  *reinterpret_cast<float4*>(tile + threadIdx.x * kPitch) = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = *reinterpret_cast<float4*>(tile + threadIdx.x / 32 * 512);
}

// A 16 x 16 matrix of halves by WMMA, its rows kPitch halves apart.
template <int kPitch>
__global__ void __launch_bounds__(32) fragment_kernel(half const* x, float* y) {
  using namespace nvcuda;
  __shared__ __align__(32) half tile[16 * kPitch];
  for (int i = 0; i < 16 * kPitch; i += 32) tile[i + threadIdx.x] = x[i + threadIdx.x];
  __syncthreads();
  wmma::fragment<wmma::matrix_a, 16, 16, 16, half, wmma::row_major> a;
  wmma::fragment<wmma::matrix_b, 16, 16, 16, half, wmma::col_major> b;
  wmma::fragment<wmma::accumulator, 16, 16, 16, float> c;
  wmma::fill_fragment(c, 0.0f);
  wmma::load_matrix_sync(a, tile, kPitch);
  wmma::load_matrix_sync(b, tile, kPitch);
  wmma::mma_sync(c, a, b, c);
  y[threadIdx.x] = c.x[0];
}

// Rows of six chunks of 16 bytes, the rows kPitch bytes apart: a division by six.
template <int kPitch>
__global__ void __launch_bounds__(128) sixths_kernel(float4 const* x, float4* y) {
  __shared__ __align__(16) char tile[22 * kPitch];
  *reinterpret_cast<float4*>(tile + threadIdx.x / 6 * kPitch + threadIdx.x % 6 * 16) = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = *reinterpret_cast<float4*>(tile + threadIdx.x / 32 * 256);
}

// The address is read from memory.
template <int kPitch>
__global__ void __launch_bounds__(128) unknown_kernel(int const* x, float* y) {
  __shared__ float tile[128];
  tile[threadIdx.x] = static_cast<float>(threadIdx.x);
  __syncthreads();
  y[threadIdx.x] = tile[x[threadIdx.x] * kPitch % 128];
}

template __global__ void column_kernel<32>(float const*, float*);
template __global__ void column_kernel<34>(float const*, float*);
template __global__ void column_kernel<33>(float const*, float*);
template __global__ void wide_kernel<16>(float4 const*, float4*);
template __global__ void wide_kernel<64>(float4 const*, float4*);
template __global__ void fragment_kernel<64>(half const*, float*);
template __global__ void fragment_kernel<72>(half const*, float*);
template __global__ void sixths_kernel<96>(float4 const*, float4*);
template __global__ void sixths_kernel<128>(float4 const*, float4*);
template __global__ void unknown_kernel<1>(int const*, float*);

}  // namespace trtbert
