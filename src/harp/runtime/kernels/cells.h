// What arenas are made of: floats, or with HARP_FP16 numbers of half the size, which are widened as they are read and
// rounded (to the nearest, ties to even) as they are stored. Sums are floats either way.
#pragma once

#include <cstdint>
#include <cstring>

#include "simd.h"

#if defined(HARP_FP16) && defined(__F16C__)
#include <immintrin.h>
#elif defined(HARP_FP16) && defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace {

INLINE float value(float x) { return x; }
INLINE block value(block x) { return x; }

#ifndef HARP_FP16

typedef float Cell;
typedef block Cells;  // of a block of images, one each

INLINE void keep(float &place, float x) { place = x; }
INLINE void keep(block &place, block x) { place = x; }

#else

struct Cell {
    uint16_t bits;
};
struct Cells {
    Cell each[LANES];
};

#if defined(__F16C__)

INLINE vec<4> widened(const Cell *p, vec<4> *) {
    return (vec<4>)_mm_cvtph_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i *>(p)));
}
INLINE vec<8> widened(const Cell *p, vec<8> *) {
    return (vec<8>)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(p)));
}
INLINE void narrowed(Cell *p, vec<4> v) {
    _mm_storel_epi64(reinterpret_cast<__m128i *>(p), _mm_cvtps_ph((__m128)v, _MM_FROUND_TO_NEAREST_INT));
}
INLINE void narrowed(Cell *p, vec<8> v) {
    _mm_storeu_si128(reinterpret_cast<__m128i *>(p), _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
}
#if defined(__AVX512F__)
INLINE vec<16> widened(const Cell *p, vec<16> *) {
    return (vec<16>)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(p)));
}
INLINE void narrowed(Cell *p, vec<16> v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(p), _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT));
}
#endif
INLINE float value(Cell x) { return _cvtsh_ss(x.bits); }
INLINE void keep(Cell &place, float x) { place.bits = _cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT); }

#elif defined(__aarch64__)

INLINE vec<4> widened(const Cell *p, vec<4> *) {
    return (vec<4>)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(&p->bits)));
}
INLINE void narrowed(Cell *p, vec<4> v) {
    vst1_u16(&p->bits, vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)v)));
}
INLINE float value(Cell x) {
    __fp16 half;
    std::memcpy(&half, &x, sizeof half);
    return half;
}
INLINE void keep(Cell &place, float x) {
    const __fp16 half = x;
    std::memcpy(&place, &half, sizeof half);
}

#else

// A processor that knows no such numbers: the exponent and fraction, moved to where a float has them, are 2^112 times too
// small, and what is stored is rounded by adding half a unit of its last place. Not copied into every kernel.
__attribute__((noinline)) float value(Cell x) {
    const uint32_t sign = uint32_t(x.bits & 0x8000) << 16, rest = uint32_t(x.bits & 0x7fff) << 13;
    float made;
    if (rest >= 0x7c00u << 13) {
        const uint32_t far = sign | rest | 0x7f800000u;  // infinity, or no number
        std::memcpy(&made, &far, sizeof made);
        return made;
    }
    std::memcpy(&made, &rest, sizeof made);
    made *= 0x1p112f;
    return sign ? -made : made;
}
__attribute__((noinline)) void keep(Cell &place, float x) {
    uint32_t all;
    std::memcpy(&all, &x, sizeof all);
    const uint32_t sign = all >> 16 & 0x8000, rest = all & 0x7fffffff;
    if (rest > 0x7f800000) {
        place.bits = uint16_t(sign | 0x7e00 | (rest >> 13 & 0x1ff));
    } else if (rest >= 0x477ff000) {  // 65,520 and more round to infinity
        place.bits = uint16_t(sign | 0x7c00);
    } else if (rest < 0x38800000) {  // below 2^-14 its unit is 2^-24, which adding 1/2 makes a float's last place
        float small;
        std::memcpy(&small, &rest, sizeof small);
        small += 0.5f;
        std::memcpy(&all, &small, sizeof all);
        place.bits = uint16_t(sign | (all - 0x3f000000));
    } else {
        place.bits = uint16_t(sign | ((rest - 0x38000000 + 0xfff + (rest >> 13 & 1)) >> 13));
    }
}
__attribute__((noinline)) vec<4> widened(const Cell *p, vec<4> *) { return vec<4>{value(p[0]), value(p[1]), value(p[2]), value(p[3])}; }
__attribute__((noinline)) void narrowed(Cell *p, vec<4> v) {
    UNROLL for (int i = 0; i < 4; i++) keep(p[i], v[i]);
}

#endif
#if !defined(__F16C__)

INLINE vec<8> widened(const Cell *p, vec<8> *) {
    const vec<4> first = widened(p, static_cast<vec<4> *>(nullptr)), last = widened(p + 4, static_cast<vec<4> *>(nullptr));
    return __builtin_shufflevector(first, last, 0, 1, 2, 3, 4, 5, 6, 7);
}
INLINE void narrowed(Cell *p, vec<8> v) {
    narrowed(p, __builtin_shufflevector(v, v, 0, 1, 2, 3));
    narrowed(p + 4, __builtin_shufflevector(v, v, 4, 5, 6, 7));
}

#endif

template <int L> INLINE vec<L> load(const Cell *p) { return widened(p, static_cast<vec<L> *>(nullptr)); }
template <int L> INLINE void store(Cell *p, vec<L> v) { narrowed(p, v); }
INLINE block value(const Cells &x) { return load<LANES>(x.each); }
INLINE void keep(Cells &place, block x) { store<LANES>(place.each, x); }

#endif

// What a cell, or a block of them, is once it is read.
template <class E> using Value = decltype(value(E{}));

}  // namespace
