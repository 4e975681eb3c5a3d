// nvcuda::wmma for the emulation, found before the toolkit's mma.h: 16 x 16 x 16 products of 16-bit floats and of int8.
//
// Which element of a fragment is which of the matrix is as opaque here as on a GPU, and different: lane l holds the elements
// l, l + 32, l + 64... in row-major order. A lane loads and stores half of them before it waits for the others, and half after: wmma
// orders no memory, so that a __syncwarp() that is missing on either side shows.
#pragma once

#include <cstdint>
#include <type_traits>

#include "machine.h"

namespace nvcuda::wmma {

struct row_major {};
struct col_major {};
struct matrix_a {};
struct matrix_b {};
struct accumulator {};
enum layout_t { mem_row_major, mem_col_major };

constexpr int kSide = 16;
constexpr int kElements = kSide * kSide / 32;
constexpr unsigned kWholeWarp = 0xFFFFFFFFu;

template <typename Use, int M, int N, int K, typename T, typename Layout = void>
struct fragment {
  static_assert(M == kSide && N == kSide && K == kSide);
  static constexpr int num_elements = kElements;
  T x[kElements];
};

template <typename Use, int M, int N, int K, typename T, typename Layout>
void fill_fragment(fragment<Use, M, N, K, T, Layout>& f, T const& value) {
  for (T& element : f.x) element = value;
}

template <typename T>
void check(T const* memory, unsigned leading) {
  if (reinterpret_cast<uintptr_t>(memory) % 32 != 0) emulation::fail("a wmma pointer is not aligned to 32 bytes");
  if (!emulation::is_shared(memory)) emulation::fail("a wmma pointer is not in shared memory");
  if (leading * sizeof(T) % 16 != 0) emulation::fail("a wmma leading dimension is not a multiple of 16 bytes");
}

// Calls move(e) for each element of this lane.
template <typename Move>
void move_all(char const* operation, Move&& move) {
  for (int e = 0; e < kElements; e += 2) move(e);
  emulation::collective(kWholeWarp, operation, nullptr, [](unsigned, void* const*) {});
  for (int e = 1; e < kElements; e += 2) move(e);
}

// Offset in memory of element e of this lane.
inline size_t offset(int e, unsigned leading, bool is_column_major) {
  unsigned const linear = static_cast<unsigned>(e) * 32 + emulation::thread().lane();
  unsigned const row = linear / kSide, column = linear % kSide;
  return is_column_major ? size_t{column} * leading + row : size_t{row} * leading + column;
}

template <typename Use, int M, int N, int K, typename T, typename Layout>
void load_matrix_sync(fragment<Use, M, N, K, T, Layout>& f, T const* memory, unsigned leading) {
  check(memory, leading);
  move_all("wmma::load_matrix_sync", [&](int e) { f.x[e] = memory[offset(e, leading, std::is_same_v<Layout, col_major>)]; });
}

template <int M, int N, int K, typename T>
void load_matrix_sync(fragment<accumulator, M, N, K, T>& f, T const* memory, unsigned leading, layout_t layout) {
  check(memory, leading);
  move_all("wmma::load_matrix_sync of an accumulator", [&](int e) { f.x[e] = memory[offset(e, leading, layout == mem_col_major)]; });
}

template <int M, int N, int K, typename T>
void store_matrix_sync(T* memory, fragment<accumulator, M, N, K, T> const& f, unsigned leading, layout_t layout) {
  check(memory, leading);
  move_all("wmma::store_matrix_sync", [&](int e) { memory[offset(e, leading, layout == mem_col_major)] = f.x[e]; });
}

template <typename D, typename T>
struct Product {
  T const* a;
  T const* b;
  D const* c;
  D* d;
};

// The product of the whole warp. Floats are summed in float after exact products, integers exactly, as tensor cores do.
template <typename D, typename T>
EMULATION_FOR_ALL_LANES void multiply_all(unsigned, void* const* deposits) {
  D a[kSide][kSide], b[kSide][kSide], sum[kSide][kSide];
  for (int i = 0; i < kSide * kSide; ++i) {
    auto const* own = static_cast<Product<D, T> const*>(deposits[i % 32]);
    T const of_a = own->a[i / 32], of_b = own->b[i / 32];  // copied here: conversions are other functions
    a[i / kSide][i % kSide] = static_cast<D>(of_a);
    b[i / kSide][i % kSide] = static_cast<D>(of_b);
    sum[i / kSide][i % kSide] = own->c[i / 32];
  }
  for (int row = 0; row < kSide; ++row) {
    for (int k = 0; k < kSide; ++k) {
      for (int column = 0; column < kSide; ++column) sum[row][column] += a[row][k] * b[k][column];
    }
  }
  for (int i = 0; i < kSide * kSide; ++i) static_cast<Product<D, T> const*>(deposits[i % 32])->d[i / 32] = sum[i / kSide][i % kSide];
}

template <int M, int N, int K, typename D, typename T, typename LayoutA, typename LayoutB>
void mma_sync(fragment<accumulator, M, N, K, D>& d, fragment<matrix_a, M, N, K, T, LayoutA> const& a,
              fragment<matrix_b, M, N, K, T, LayoutB> const& b, fragment<accumulator, M, N, K, D> const& c) {
  Product<D, T> own{a.x, b.x, c.x, d.x};
  emulation::collective(kWholeWarp, "wmma::mma_sync", &own, multiply_all<D, T>);
}

}  // namespace nvcuda::wmma
