// Convolutions of one image: vectors run along its flattened planes.
#pragma once

#include <algorithm>
#include <type_traits>
#include <utility>

#include "abi.h"
#include "activations.h"
#include "cells.h"
#include "simd.h"
#include "threads.h"

namespace {

template <int L, int... I> INLINE vec<L> up_one(vec<L> before, vec<L> v, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(before, v, (L - 1 + I)...);
}
template <int L, int... I> INLINE vec<L> down_one(vec<L> v, vec<L> after, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(v, after, (1 + I)...);
}

// Every element moves one place up (down) the tile; what would come from another row is masked away.
template <int L, int T> INLINE void shift_up(vec<L> (&a)[T], const int32_t *m) {
    const auto lanes = std::make_integer_sequence<int, L>();
    UNROLL for (int t = T - 1; t > 0; t--) a[t] = both<L>(up_one<L>(a[t - 1], a[t], lanes), masks<L>(m + t * L));
    a[0] = both<L>(up_one<L>(vec<L>{}, a[0], lanes), masks<L>(m));
}
template <int L, int T> INLINE void shift_down(vec<L> (&a)[T], const int32_t *m) {
    const auto lanes = std::make_integer_sequence<int, L>();
    UNROLL for (int t = 0; t < T - 1; t++) a[t] = both<L>(down_one<L>(a[t], a[t + 1], lanes), masks<L>(m + t * L));
    a[T - 1] = both<L>(down_one<L>(a[T - 1], vec<L>{}, lanes), masks<L>(m + (T - 1) * L));
}

// F filters, T vectors each: acc[f] += weight[f] * input under the tap. Short tiles take several chains of additions,
// because one addition waits four cycles for the one before it.
template <int L, int T, class E> INLINE void accumulate(vec<L> (&acc)[T], const Cell *in, const E *e, const E *end) {
    constexpr int CHAINS = T >= 4 ? 1 : T >= 2 ? 2 : 4;
    if constexpr (CHAINS > 1) {
        if (end - e >= CHAINS) {
            vec<L> more[CHAINS - 1][T] = {};
            for (; end - e >= CHAINS; e += CHAINS) {
                __builtin_prefetch(e + AHEAD / sizeof *e);
                UNROLL for (int t = 0; t < T; t++) acc[t] += e[0].weight * load<L>(in + e[0].offset + t * L);
                UNROLL for (int c = 1; c < CHAINS; c++)
                    UNROLL for (int t = 0; t < T; t++) more[c - 1][t] += e[c].weight * load<L>(in + e[c].offset + t * L);
            }
            UNROLL for (int c = 0; c < CHAINS - 1; c++) UNROLL for (int t = 0; t < T; t++) acc[t] += more[c][t];
        }
    }
    for (; e != end; e++) {
        const Cell *p = in + e->offset;
        if (CHAINS == 1) __builtin_prefetch(e + AHEAD / sizeof *e);
        UNROLL for (int t = 0; t < T; t++) acc[t] += e->weight * load<L>(p + t * L);
    }
}
template <int L, int T> INLINE void accumulate(vec<L> (&acc)[4][T], const Cell *in, const Entry4 *e, const Entry4 *end) {
    for (; e != end; e++) {
        const Cell *p = in + e->offset;
        __builtin_prefetch(e + AHEAD / sizeof *e);
        UNROLL for (int t = 0; t < T; t++) {
            const vec<L> x = load<L>(p + t * L);
            UNROLL for (int f = 0; f < 4; f++) acc[f][t] += e->weight[f] * x;
        }
    }
}

// 2 x 2 maximum with stride 2 of a tile whose rows are R vectors each: pairs of rows, then neighbours.
template <class V, int... I> INLINE V even(V a, V b, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(a, b, (2 * I)...);
}
template <class V, int... I> INLINE V odd(V a, V b, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(a, b, (2 * I + 1)...);
}
template <int L> INLINE vec<L> neighbours(vec<L> a, vec<L> b) {
    const auto lanes = std::make_integer_sequence<int, L>();
    return largest(even(a, b, lanes), odd(a, b, lanes));
}
template <int L, int T, int R> INLINE void store_halved(const vec<L> (&acc)[T], Cell *out) {
    vec<L> rows[T / 2];
    UNROLL for (int t = 0; t < T / 2; t++) rows[t] = largest(acc[t / R * 2 * R + t % R], acc[t / R * 2 * R + t % R + R]);
    UNROLL for (int t = 0; t < T / 4; t++) store<L>(out + t * L, neighbours<L>(rows[2 * t], rows[2 * t + 1]));
}

// What was summed so far lies where the result will; `other` may be the same place, and goes into the first sum.
template <int L, int T> INLINE void finish(const Step &s, vec<L> (&acc)[T], float bias, Cell *out, const Cell *other,
                                           const int32_t *valid, int part = 0) {
    if (part) {
        UNROLL for (int t = 0; t < T; t++) acc[t] += load<L>(out + t * L);
    } else {
        UNROLL for (int t = 0; t < T; t++) acc[t] += bias;
        if (other) UNROLL for (int t = 0; t < T; t++) acc[t] += load<L>(other + t * L);
    }
    if (part + 1 < s.parts) {
        UNROLL for (int t = 0; t < T; t++) store<L>(out + t * L, acc[t]);
        return;
    }
    activate_tile<L, T>(s, acc);
    if constexpr (T % 4 == 0) {
        if (s.halved == 1) return store_halved<L, T, 1>(acc, out);
        if (s.halved == 2) return store_halved<L, T, 2>(acc, out);
    }
    if (valid) UNROLL for (int t = 0; t < T; t++) acc[t] = both<L>(acc[t], masks<L>(valid + t * L));
    UNROLL for (int t = 0; t < T; t++) store<L>(out + t * L, acc[t]);
}

struct Place {
    const Cell *in, *other;
    Cell *out;
    int64_t plane, other_plane;
    int32_t first, last;  // filters: from, and up to
};

// A filter's entries are in lists, one for each column of taps: `s.before` of them left of the centre, from the leftmost
// inward, the centre's, and `s.after` right of it, from the rightmost inward. A list is added up where its entries read,
// so its sum lies as many places from where it belongs as its column is from the centre. After each list off the centre,
// therefore, all sums of its side move one place: up the tile on the left, down on the right. As the two sides move
// against each other, the left's sums wait in memory while the right's are made; the centre's list is added last.
//
// Where the channels of a tile are more than the first cache holds they come in `parts`: all filters' lists of one share
// of the channels, then all of the next.
template <int L, int T, class E> void conv_tile(const Step &s, const Place &at, const int32_t *valid) {
    const E *entries = static_cast<const E *>(s.entries), *begin = nullptr;
    const int32_t *ends = nullptr;  // where the lists to come end
    for (int part = 0, f = at.first; part < s.parts; f = f + 1 < at.last ? f + 1 : (part++, at.first)) {
        if (f == at.first) {
            ends = s.starts + (int64_t(part) * s.filters + f) * (s.before + 1 + s.after);
            begin = entries + *ends++;
        }
        vec<L> acc[T] = {};
        const E *filter_begin = begin;
        for (int left = s.before; left > 0; left--) {
            const E *end = entries + *ends++;
            accumulate<L, T, E>(acc, at.in, begin, end);
            if (end != filter_begin) shift_up<L, T>(acc, s.up);  // nothing to shift before the first entry
            begin = end;
        }
        // The centre's list goes from `begin` to `centre_end`, those right of it from there to `filter_end`.
        const E *centre_end = entries + *ends++, *filter_end = s.after ? entries + ends[s.after - 1] : centre_end;
        if (filter_end == centre_end) {
            accumulate<L, T, E>(acc, at.in, begin, centre_end);
        } else {
            alignas(64) float saved[T * L];
            const bool set_aside = filter_begin != begin;  // whether there are sums from the left
            UNROLL for (int t = 0; t < T; t++) store<L>(saved + t * L, acc[t]);
            if (set_aside) UNROLL for (int t = 0; t < T; t++) acc[t] = vec<L>{};
            const E *from = centre_end;
            for (int right = 0; right < s.after; right++) {
                const E *end = entries + ends[right];
                accumulate<L, T, E>(acc, at.in, from, end);
                if (end != centre_end) shift_down<L, T>(acc, s.down);
                from = end;
            }
            if (set_aside) UNROLL for (int t = 0; t < T; t++) acc[t] += load<L>(saved + t * L);
            accumulate<L, T, E>(acc, at.in, begin, centre_end);
        }
        begin = filter_end;
        ends += s.after;
        finish<L, T>(s, acc, s.bias[f], at.out + f * at.plane, at.other ? at.other + f * at.other_plane : nullptr, valid,
                     part);
    }
}

// Where few weights are left, one column off the centre at most: shifting sums would cost more than loads that are not
// aligned, `shift` elements beside, without what lies in another row.
template <int L, int T> INLINE void accumulate_beside(vec<L> (&acc)[T], const Cell *in, const Entry *e, const Entry *end,
                                                      int shift, const int32_t *m) {
    for (; e != end; e++) {
        const Cell *p = in + e->offset + shift;
        UNROLL for (int t = 0; t < T; t++) acc[t] += e->weight * both<L>(load<L>(p + t * L), masks<L>(m + t * L));
    }
}
template <int L, int T> void conv_tile_few(const Step &s, const Place &at, const int32_t *valid) {
    const int32_t *ends = s.starts + int64_t(at.first) * (s.before + 1 + s.after);
    const Entry *entries = static_cast<const Entry *>(s.entries), *begin = entries + *ends++;
    for (int f = at.first; f < at.last; f++) {
        vec<L> acc[T];
        UNROLL for (int t = 0; t < T; t++) acc[t] = vec<L>{};
        if (s.before) {
            const Entry *end = entries + *ends++;
            accumulate_beside<L, T>(acc, at.in, begin, end, -1, s.up);
            begin = end;
        }
        const Entry *end = entries + *ends++;
        accumulate<L, T, Entry>(acc, at.in, begin, end);
        begin = end;
        if (s.after) {
            end = entries + *ends++;
            accumulate_beside<L, T>(acc, at.in, begin, end, 1, s.down);
            begin = end;
        }
        finish<L, T>(s, acc, s.bias[f], at.out + f * at.plane, at.other ? at.other + f * at.other_plane : nullptr, valid);
    }
}

template <int L, int T> void conv_tile4(const Step &s, const Place &at, const int32_t *valid) {
    const int32_t *ends = s.starts + int64_t(at.first) / 4 * (s.before + 1 + s.after);
    const Entry4 *entries = static_cast<const Entry4 *>(s.entries), *begin = entries + *ends++;
    for (int f = at.first; f < at.last; f += 4) {
        vec<L> acc[4][T] = {};
        for (int left = s.before; left >= 0; left--) {
            const Entry4 *end = entries + *ends++;
            accumulate<L, T>(acc, at.in, begin, end);
            if (left) UNROLL for (int i = 0; i < 4; i++) shift_up<L, T>(acc[i], s.up);
            begin = end;
        }
        if (s.after) {
            alignas(64) float saved[4 * T * L];
            UNROLL for (int i = 0; i < 4; i++) UNROLL for (int t = 0; t < T; t++) {
                store<L>(saved + (i * T + t) * L, acc[i][t]);
                acc[i][t] = vec<L>{};
            }
            for (int right = 0; right < s.after; right++) {
                const Entry4 *end = entries + *ends++;
                accumulate<L, T>(acc, at.in, begin, end);
                UNROLL for (int i = 0; i < 4; i++) shift_down<L, T>(acc[i], s.down);
                begin = end;
            }
            UNROLL for (int i = 0; i < 4; i++)
                UNROLL for (int t = 0; t < T; t++) acc[i][t] += load<L>(saved + (i * T + t) * L);
        }
        for (int i = 0; i < std::min(4, at.last - f); i++)
            finish<L, T>(s, acc[i], s.bias[f + i], at.out + (f + i) * at.plane,
                         at.other ? at.other + (f + i) * at.other_plane : nullptr, valid);
    }
}

// Small dense maps, whose pixels would not fill vectors: G vectors of filters, P pixels. All taps of a pixel lie at the
// same place of planes of their own.
constexpr int vectors(int pixels) { return std::max(1, REGISTERS / 2 / pixels); }
template <int P, int G> void conv_dense(const Step &s, const Place &at, const int32_t *valid) {
    const float *weight = static_cast<const float *>(s.entries) + int64_t(at.first) * s.starts[0];
    const int32_t *offset = s.starts + 1;
    for (int f = at.first; f < at.last; f += G * LANES) {
        block acc[G][P] = {};
        for (int k = 0; k < s.starts[0]; k++, weight += G * LANES) {
            const Cell *x = at.in + offset[k];
            UNROLL for (int g = 0; g < G; g++) {
                __builtin_prefetch(weight + g * LANES + AHEAD / sizeof *weight);
                const block w = load<LANES>(weight + g * LANES);
                UNROLL for (int p = 0; p < P; p++) acc[g][p] += w * value(x[p]);
            }
        }
        float turned[G * LANES][P];
        UNROLL for (int g = 0; g < G; g++)
            for (int p = 0; p < P; p++)
                for (int i = 0; i < LANES; i++) turned[g * LANES + i][p] = acc[g][p][i];
        for (int i = 0; i < std::min(G * LANES, at.last - f); i++) {
            vec<4> row[P / 4];
            UNROLL for (int p = 0; p < P / 4; p++) row[p] = load<4>(turned[i] + 4 * p);
            finish<4, P / 4>(s, row, s.bias[f + i], at.out + (f + i) * at.plane,
                             at.other ? at.other + (f + i) * at.other_plane : nullptr, valid);
        }
    }
}

typedef void (*Tile)(const Step &, const Place &, const int32_t *);
// A register is left for the weight and one for what is read, else a sum would live in memory.
constexpr int WIDEST = REGISTERS == 32 ? 16 : 14, WIDEST4 = REGISTERS == 32 ? 6 : 2;

template <int L, int T> Tile find_tile(int tile, int width, bool brief) {
    if constexpr (T == 0) {
        return nullptr;
    } else {
        if (tile != T) return find_tile<L, T - 1>(tile, width, brief);
        if (width == FEW) return conv_tile_few<L, T>;
        if (width == ONE) return brief ? conv_tile<L, T, ShortEntry> : conv_tile<L, T, Entry>;
        if constexpr (T <= WIDEST4) return conv_tile4<L, T>;
        return nullptr;
    }
}
Tile find_tile(const Step &s) {
    if (s.width == DENSE) switch (s.tile) {
        case 4: return conv_dense<4, vectors(4)>;
        case 8: return conv_dense<8, vectors(8)>;
        case 12: return conv_dense<12, vectors(12)>;
        case 16: return conv_dense<16, vectors(16)>;
        default: return nullptr;
    }
    if (s.lanes == LANES) return find_tile<LANES, WIDEST>(s.tile, s.width, s.brief);
    if constexpr (LANES > 8)
        if (s.lanes == 8) return find_tile<8, WIDEST>(s.tile, s.width, s.brief);
    if constexpr (LANES > 4)
        if (s.lanes == 4) return find_tile<4, 4>(s.tile, s.width, s.brief);
    return nullptr;
}

// Filters that a kernel makes at once: none of them is divided among threads.
int32_t at_once(const Step &s) { return s.width == FOUR ? 4 : s.width == DENSE ? vectors(s.tile) * LANES : 1; }

void conv(const Step &s, const Buffer *b, Cell *arena, const Share &mine) {
    const Buffer &in = b[s.in], &out = b[s.out];
    const Tile run = find_tile(s);
    const int step = s.lanes * s.tile;
    mine.each(s.tiles, s.filters, at_once(s), [&](int64_t t, int32_t first, int32_t last) {
        const int64_t p = t * step;
        Place at{arena + in.at + p + s.base, s.other < 0 ? nullptr : arena + b[s.other].at + p,
                 arena + out.at + (s.halved ? p / 4 : p), out.plane, s.other < 0 ? 0 : b[s.other].plane, first, last};
        run(s, at, s.valid ? s.valid + p : nullptr);
    });
}

}  // namespace
