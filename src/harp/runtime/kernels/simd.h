// How many floats a vector has, and vectors in memory.
#pragma once

#include <cstdint>

#if defined(__AVX512F__)
constexpr int LANES = 16, REGISTERS = 32;
#elif defined(__AVX2__)
constexpr int LANES = 8, REGISTERS = 16;
#elif defined(__aarch64__)
constexpr int LANES = 4, REGISTERS = 32;
#else
constexpr int LANES = 4, REGISTERS = 16;
#endif

// Bytes of a list that are asked for before they are needed. Caches look ahead by themselves, but not into another page.
constexpr int AHEAD = 3072;

#define EXPORT __attribute__((visibility("default")))
#define INLINE inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

namespace {

template <int L> struct Lanes {
    typedef float vec __attribute__((vector_size(L * 4), aligned(4), may_alias));
    typedef int32_t mask __attribute__((vector_size(L * 4), aligned(4), may_alias));
    typedef uint32_t bits __attribute__((vector_size(L * 4), aligned(4), may_alias));
};
template <int L> using vec = typename Lanes<L>::vec;
template <int L> using mask = typename Lanes<L>::mask;
template <int L> using bits = typename Lanes<L>::bits;  // as `mask`, where a sum may run over
typedef vec<LANES> block;

template <int L> INLINE vec<L> load(const float *p) { return *reinterpret_cast<const vec<L> *>(p); }
template <int L> INLINE void store(float *p, vec<L> v) { *reinterpret_cast<vec<L> *>(p) = v; }
template <int L> INLINE vec<L> both(vec<L> v, mask<L> m) { return (vec<L>)((mask<L>)v & m); }
template <int L> INLINE mask<L> masks(const int32_t *p) { return *reinterpret_cast<const mask<L> *>(p); }

}  // namespace
