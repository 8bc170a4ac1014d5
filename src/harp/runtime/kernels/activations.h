// Activations of vectors, right to a few units in the last place.
#pragma once

#include <cmath>
#include <cstdint>

#include "abi.h"
#include "simd.h"

namespace {

// Comparing with NaN gives false, and false gives `a`: so a NaN in `a` stays one, and a NaN in `b` is passed over.
template <class V> INLINE V lowest(V a, V b) { return b < a ? b : a; }
template <class V> INLINE V highest(V a, V b) { return b > a ? b : a; }
// The larger, and NaN where either is, as in PyTorch's maximum. The comparison gives `b` where one of them is NaN: right
// where that is `b`, so only a NaN in `a` has to be put back.
template <class V> INLINE V largest(V a, V b) {
    const V larger = a > b ? a : b;
    return a != a ? a : larger;
}

// exp to about one unit in the last place: 2^n times a polynomial of the rest.
template <int L> INLINE vec<L> exponential(vec<L> x) {
    x = lowest(highest(x, vec<L>{} - 87.0f), vec<L>{} + 88.0f);
    vec<L> n = x * 1.44269504088896341f;
    n = (n + 12582912.0f) - 12582912.0f;  // to the nearest whole number
    vec<L> r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    vec<L> p = vec<L>{} + 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    mask<L> e = (__builtin_convertvector(n, mask<L>) + 127) << 23;
    return p * (vec<L>)e;
}
template <int L> INLINE vec<L> sigmoid(vec<L> x) { return 1.0f / (1.0f + exponential<L>(-x)); }
// tanh to two units in the last place (1.6 at most). Near 0, where 1 - 2 / (1 + exp(2 |x|)) loses what it subtracts, an
// odd polynomial; NaN takes that way, too. The sign is put back at the end, that of -0 with it.
template <int L> INLINE vec<L> tanh_(vec<L> x) {
    const bits<L> sign = (bits<L>)x & 0x80000000u;
    const vec<L> a = (vec<L>)((bits<L>)x ^ sign), t = a * a;
    vec<L> near = vec<L>{} - 5.5151647e-3f;
    near = near * t + 2.0469420e-2f;
    near = near * t - 5.3688023e-2f;
    near = near * t + 1.3330830e-1f;
    near = near * t - 3.3333260e-1f;
    near = a + a * (near * t);
    // exp(2 |x|) = 2^n 2^r: n stands in the last bits of a sum with a large number, and 2^r is a polynomial.
    const vec<L> b = lowest(a, vec<L>{} + 10.0f) * 2.88539008f, sum = b + 12582912.0f, r = b - (sum - 12582912.0f);
    vec<L> e = vec<L>{} + 1.53458175e-04f;
    e = e * r + 1.33999313e-03f;
    e = e * r + 9.61848894e-03f;
    e = e * r + 5.55032878e-02f;
    e = e * r + 2.40226469e-01f;
    e = e * r + 6.93147206e-01f;
    e = e * r + 1.0f;
    e = (vec<L>)((bits<L>)e + ((bits<L>)sum << 23));
    const vec<L> far = 1.0f - 2.0f / (1.0f + e);
    return (vec<L>)((bits<L>)(a >= 0.65f ? far : near) | sign);
}

template <int L> INLINE vec<L> each(vec<L> x, float (*f)(float)) {
    for (int i = 0; i < L; i++) x[i] = f(x[i]);
    return x;
}
inline float gelu(float x) { return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f)); }
inline float expm1_(float x) { return expm1f(x); }

template <int L> INLINE vec<L> activated(const Step &s, vec<L> x) {
    const vec<L> zero{};
    switch (s.act) {
        case NONE: return x;
        case CLAMP: return lowest(highest(x, zero + s.low), zero + s.high);
        case LEAKY: return x > zero ? x : x * s.low;
        // From -88 on down sigmoid stays where it is, some 1e-38, which a large factor must not make a number of.
        case SILU: return highest(x, zero - 88.0f) * sigmoid<L>(x);
        case GELU: return each<L>(x, gelu);
        case GELU_TANH: return 0.5f * x * (1.0f + tanh_<L>(0.79788456080286536f * (x + 0.044715f * x * x * x)));
        case HARDSWISH: return x * lowest(highest(x * (1.0f / 6) + 0.5f, zero), zero + 1.0f);
        case SIGMOID: return sigmoid<L>(x);
        case HARDSIGMOID: return lowest(highest(x * (1.0f / 6) + 0.5f, zero), zero + 1.0f);
        case TANH: return tanh_<L>(x);
        case ELU: return x > zero ? x : s.low * each<L>(x, expm1_);
    }
    return x;
}

// Outside of the kernels, each of which would else hold a copy of all activations.
template <int L> __attribute__((noinline)) void activate(const Step &s, vec<L> *x, int count) {
    for (int i = 0; i < count; i++) x[i] = activated<L>(s, x[i]);
}

template <int L, int T> INLINE void activate_tile(const Step &s, vec<L> (&acc)[T]) {
    if (s.act == CLAMP) {
        UNROLL for (int t = 0; t < T; t++) acc[t] = highest(acc[t], vec<L>{} + s.low);
        if (s.high < std::numeric_limits<float>::infinity())
            UNROLL for (int t = 0; t < T; t++) acc[t] = lowest(acc[t], vec<L>{} + s.high);
    } else if (s.act != NONE) {
        vec<L> copy[T];  // so that `acc` itself can stay in registers
        UNROLL for (int t = 0; t < T; t++) copy[t] = acc[t];
        activate<L>(s, copy, T);
        UNROLL for (int t = 0; t < T; t++) acc[t] = copy[t];
    }
}

}  // namespace
