// Everything but convolutions, on elements of either kind: a cell of one image, or those of a block of them.
#pragma once

#include <algorithm>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "abi.h"
#include "activations.h"
#include "cells.h"
#include "image.h"
#include "simd.h"
#include "threads.h"
#include "windows.h"

namespace {

INLINE float active(const Step &s, float x) { return activated<4>(s, vec<4>{x})[0]; }
INLINE block active(const Step &s, block x) { return activated<LANES>(s, x); }

template <class E> void linear(const Step &s, const Buffer *b, E *arena, const Share &mine) {
    const E *in = arena + b[s.in].at;
    const Entry *entries = static_cast<const Entry *>(s.entries);
    for (int64_t f = mine.from(s.filters); f < mine.until(s.filters); f++) {
        const Entry *e = entries + s.starts[f], *end = entries + s.starts[f + 1];
        Value<E> acc[4] = {Value<E>{} + s.bias[f]};
        for (; end - e >= 4; e += 4)
            UNROLL for (int i = 0; i < 4; i++) acc[i] += e[i].weight * value(in[e[i].offset]);
        for (; e != end; e++) acc[0] += e->weight * value(in[e->offset]);
        Value<E> sum = (acc[0] + acc[1]) + (acc[2] + acc[3]);
        if (s.other >= 0) sum += value(arena[b[s.other].at + f * b[s.other].plane]);
        keep(arena[b[s.out].at + f * b[s.out].plane], active(s, sum));
    }
}

// With stride 2 and all four views, rows are taken apart into even and odd elements, W at a time; returns where it ends.
template <int W> INLINE int apart(const Cell *source, Cell *evens, Cell *odds, int x, int width) {
    const auto lanes = std::make_integer_sequence<int, W>();
    for (; x + W <= width; x += W) {
        const vec<W> first = load<W>(source + 2 * x), last = load<W>(source + 2 * x + W);
        store<W>(evens + x, even(first, last, lanes));
        store<W>(odds + x, odd(first, last, lanes));
    }
    return x;
}
void quarters(const Buffer &in, const Buffer &out, Cell *arena, const Share &mine) {
    for (int64_t c = mine.from(in.channels); c < mine.until(in.channels); c++)
        for (int y = 0; y < in.height; y++) {
            const Cell *source = arena + in.at + c * in.plane + int64_t(y) * in.pitch;
            Cell *evens = arena + out.at + (c * 4 + y % 2 * 2) * out.plane + int64_t(y / 2) * out.pitch;
            const int x = apart<LANES>(source, evens, evens + out.plane, 0, out.width);
            apart<4>(source, evens, evens + out.plane, x, out.width);
        }
}
bool all_quarters(const Step &s, const Buffer &in, const Buffer &out) {
    const int32_t *t = s.taps;
    return s.stride == 2 && s.views == 4 && 2 * out.width == in.width && out.width % 4 == 0 && !t[0] && !t[1] && !t[2] &&
           t[3] == 1 && t[4] == 1 && !t[5] && t[6] == 1 && t[7] == 1;
}

// target[x] = source[x * stride]; may read one cell beyond the last.
template <class E> INLINE void take(E *target, const E *source, int count, int stride) {
    int x = 0;
    if constexpr (std::is_same_v<E, Cell>)
        for (; stride == 2 && x + LANES <= count; x += LANES)
            store<LANES>(target + x, even(load<LANES>(source + 2 * x), load<LANES>(source + 2 * x + LANES),
                                          std::make_integer_sequence<int, LANES>()));
    if (stride == 1) std::copy(source + x, source + count, target + x);
    else for (; x < count; x++) target[x] = source[int64_t(x) * stride];
}

template <class E> void views(const Step &s, const Buffer *b, E *arena, const Share &mine) {
    const Buffer &in = b[s.in], &out = b[s.out];
    if constexpr (std::is_same_v<E, Cell>)
        if (all_quarters(s, in, out)) return quarters(in, out, arena, mine);
    for (int64_t c = mine.from(in.channels); c < mine.until(in.channels); c++)
        for (int v = 0; v < s.views; v++) {
            const int dy = s.taps[2 * v], dx = s.taps[2 * v + 1];
            // Columns whose source lies in the image; the others stay zero.
            const int first = std::max(0, (-dx + s.stride - 1) / s.stride);
            const int last = std::min(out.width, (in.width - dx + s.stride - 1) / s.stride);
            if (last <= first) continue;  // a kernel wider than the image
            for (int y = 0; y < out.height; y++) {
                const int sy = y * s.stride + dy;
                if (sy < 0 || sy >= in.height) continue;
                const E *source = arena + in.at + c * in.plane + int64_t(sy) * in.pitch + dx;
                E *target = arena + out.at + (c * s.views + v) * out.plane + int64_t(y) * out.pitch;
                take<E>(target + first, source + int64_t(first) * s.stride, last - first, s.stride);
            }
        }
}

// 2 x 2 maximum with stride 2, the commonest pooling, on rows of `in` at a and below; W > 0 fixes the width.
template <class E, int W> INLINE void halve_row(const E *a, const E *below, E *target, int width) {
    for (int x = 0; x < (W ? W : width); x++)
        keep(target[x], largest(largest(value(a[2 * x]), value(below[2 * x])),
                                largest(value(a[2 * x + 1]), value(below[2 * x + 1]))));
}
template <class E, int W> void halve(const Buffer &in, const Buffer &out, E *arena, const Share &mine) {
    for (int64_t c = mine.from(out.channels); c < mine.until(out.channels); c++)
        for (int y = 0; y < out.height; y++) {
            const E *a = arena + in.at + c * in.plane + int64_t(2 * y) * in.pitch, *below = a + in.pitch;
            E *target = arena + out.at + c * out.plane + int64_t(y) * out.pitch;
            int x = 0;
            if constexpr (std::is_same_v<E, Cell> && !W)
                for (; x + 8 <= out.width; x += 8) {
                    const Cell *p = a + 2 * x, *q = below + 2 * x;
                    store<8>(target + x, neighbours<8>(largest(load<8>(p), load<8>(q)), largest(load<8>(p + 8), load<8>(q + 8))));
                }
            halve_row<E, W>(a + 2 * x, below + 2 * x, target + x, out.width - x);
        }
}

// made[x] and read[x * stride], summed or the larger of them; may read one element beyond the last.
template <bool SUM, class V> INLINE V joined(V a, V b) {
    if constexpr (SUM) return a + b;
    else return largest(a, b);
}
template <bool SUM, class V, class E> void join(V *made, const E *read, int count, int stride) {
    int x = 0;
    if constexpr (std::is_same_v<V, float>) {
        const auto lanes = std::make_integer_sequence<int, LANES>();
        for (; stride == 1 && x + LANES <= count; x += LANES)
            store<LANES>(made + x, joined<SUM>(load<LANES>(made + x), load<LANES>(read + x)));
        for (; stride == 2 && x + LANES <= count; x += LANES)
            store<LANES>(made + x, joined<SUM>(load<LANES>(made + x),
                                               even(load<LANES>(read + 2 * x), load<LANES>(read + 2 * x + LANES), lanes)));
    }
    for (; x < count; x++) made[x] = joined<SUM>(made[x], value(read[int64_t(x) * stride]));
}

// Windows one way after the other: the rows that a row of windows meets become one, whose columns are joined then.
template <class E, bool SUM>
void windows(const Step &s, const Buffer &in, const Buffer &out, E *arena, const Share &mine) {
    typedef Value<E> V;
    const V none = V{} + (SUM ? 0.0f : -std::numeric_limits<float>::infinity());
    std::vector<V> row(in.width + 1), made(out.width);
    for (int64_t c = mine.from(out.channels); c < mine.until(out.channels); c++) {
        const E *plane = arena + in.at + c * in.plane;
        for (int y = 0; y < out.height; y++) {
            const Span down = span(y * s.stride_h - s.pad_h, s.kernel_h, s.dilate_h, in.height, s.pad_h);
            E *target = arena + out.at + c * out.plane + int64_t(y) * out.pitch;
            for (size_t x = 0; x < row.size(); x++) row[x] = none;  // std::fill would take it for aligned
            for (size_t x = 0; x < made.size(); x++) made[x] = none;
            for (int sy = down.first; sy < down.last; sy++)
                join<SUM>(row.data(), plane + int64_t(down.at + sy * s.dilate_h) * in.pitch, in.width, 1);
            for (int sx = 0; sx < s.kernel_w; sx++) {
                const int left = s.pad_w - sx * s.dilate_w;  // of the image, in the first window
                const int first = std::max(0, left + s.stride_w - 1) / s.stride_w;
                const int last = std::min(out.width, (in.width + left + s.stride_w - 1) / s.stride_w);
                if (first < last)
                    join<SUM>(made.data() + first, row.data() + first * s.stride_w - left, last - first, s.stride_w);
            }
            for (int x = 0; x < out.width; x++) {
                V found = made[x];
                if constexpr (SUM) {
                    const Span along = span(x * s.stride_w - s.pad_w, s.kernel_w, s.dilate_w, in.width, s.pad_w);
                    found = found / (s.count_pad ? float(down.bordered) * float(along.bordered)
                                                 : float(down.last - down.first) * float(along.last - along.first));
                }
                keep(target[x], s.act != NONE ? active(s, found) : found);
            }
        }
    }
}

template <class E> void pool(const Step &s, const Buffer *b, E *arena, const Share &mine) {
    const Buffer &in = b[s.in], &out = b[s.out];
    if (!s.average && s.kernel_h == 2 && s.kernel_w == 2 && s.stride_h == 2 && s.stride_w == 2 && !s.pad_h && !s.pad_w &&
        s.dilate_h == 1 && s.dilate_w == 1 && s.act == NONE && 2 * out.height <= in.height && 2 * out.width <= in.width)
        switch (out.width) {
            case 1: return halve<E, 1>(in, out, arena, mine);
            case 2: return halve<E, 2>(in, out, arena, mine);
            case 4: return halve<E, 4>(in, out, arena, mine);
            default: return halve<E, 0>(in, out, arena, mine);
        }
    if (s.average) windows<E, true>(s, in, out, arena, mine);
    else windows<E, false>(s, in, out, arena, mine);
}

// out = act(in [+ other]); with SCALE, in times a factor per channel; COPY puts in's channels behind others.
template <class E> void pointwise(const Step &s, const Buffer *b, E *arena, const Share &mine) {
    const Buffer &in = b[s.in], &out = b[s.out];
    for (int64_t c = mine.from(in.channels); c < mine.until(in.channels); c++)
        for (int y = 0; y < in.height; y++) {
            const E *source = arena + in.at + c * in.plane + int64_t(y) * in.pitch;
            E *target = arena + out.at + (c + s.channel) * out.plane + int64_t(y) * out.pitch;
            if (s.kind == ADD) {
                const E *other = arena + b[s.other].at + c * b[s.other].plane + int64_t(y) * b[s.other].pitch;
                for (int x = 0; x < in.width; x++) keep(target[x], active(s, value(source[x]) + value(other[x])));
            } else if (s.kind == SCALE) {
                const Value<E> factor = value(arena[b[s.other].at + c * b[s.other].plane]);
                for (int x = 0; x < in.width; x++) keep(target[x], active(s, value(source[x]) * factor));
            } else {
                for (int x = 0; x < in.width; x++) keep(target[x], active(s, value(source[x])));
            }
        }
}

template <class E> void mean(const Step &s, const Buffer *b, E *arena, const Share &mine) {
    const Buffer &in = b[s.in], &out = b[s.out];
    const float count = float(in.height) * float(in.width);
    for (int64_t c = mine.from(in.channels); c < mine.until(in.channels); c++) {
        Value<E> sum{};
        for (int y = 0; y < in.height; y++) {
            const E *row = arena + in.at + c * in.plane + int64_t(y) * in.pitch;
            Value<E> parts[4] = {};
            int x = 0;
            for (; x + 4 <= in.width; x += 4)
                UNROLL for (int i = 0; i < 4; i++) parts[i] += value(row[x + i]);
            for (; x < in.width; x++) parts[0] += value(row[x]);
            sum += (parts[0] + parts[1]) + (parts[2] + parts[3]);
        }
        keep(arena[out.at + c * out.plane], active(s, sum / count));
    }
}

// Dense values of one image, and the planes' elements; STEP cells lie between an element and the next.
template <int STEP>
void read_in(const Step &s, const Buffer &in, const float *image, Cell *arena, const Share &mine) {
    const int64_t along = s.tokens ? in.channels : 1, down = s.tokens ? 1 : int64_t(in.height) * in.width;
    const int64_t rows = int64_t(in.channels) * in.height;
    for (int64_t row = mine.from(rows); row < mine.until(rows); row++) {
        const int64_t c = row / in.height, y = row % in.height;
        const float *source = image + c * down + y * in.width;
        Cell *target = arena + (in.at + c * in.plane + y * in.pitch) * STEP;
        for (int x = 0; x < in.width; x++) keep(target[x * STEP], source[x * along]);
    }
}
template <int STEP> void write_out(const Step &s, const Buffer &out, const Cell *arena, float *image) {
    const int64_t along = s.tokens ? out.channels : 1, down = s.tokens ? 1 : int64_t(out.height) * out.width;
    for (int c = 0; c < out.channels; c++)
        for (int y = 0; y < out.height; y++) {
            const Cell *source = arena + (out.at + c * out.plane + int64_t(y) * out.pitch) * STEP;
            float *target = image + c * down + int64_t(y) * out.width;
            for (int x = 0; x < out.width; x++) target[x * along] = value(source[x * STEP]);
        }
}

// A square of floats in registers, rows for columns: blocks of 1, then 2, 4, ... change places.
template <int S, int... I> INLINE void exchange(block &a, block &b, std::integer_sequence<int, I...>) {
    const block first = __builtin_shufflevector(a, b, (I & S ? LANES + I - S : I)...);
    b = __builtin_shufflevector(a, b, (I & S ? LANES + I : I + S)...);
    a = first;
}
template <int S> INLINE void transpose(block (&rows)[LANES]) {
    UNROLL for (int i = 0; i < LANES; i++)
        if (!(i & S)) exchange<S>(rows[i], rows[i + S], std::make_integer_sequence<int, LANES>());
    if constexpr (2 * S < LANES) transpose<2 * S>(rows);
}

// The dense values of a whole block of images, `size` each, to elements: as many at a time as there are lanes.
void read_block(const Buffer &in, const float *images, Cell *arena) {
    const int64_t size = int64_t(in.channels) * in.height * in.width, row = in.width;
    int64_t x = 0, target = in.at, plane = in.at, y = 0;
    for (int64_t first = 0; first < size; first += LANES) {
        const int64_t here = std::min<int64_t>(LANES, size - first);
        block rows[LANES];
        for (int k = 0; k < LANES; k++) {
            if (here == LANES) rows[k] = load<LANES>(images + k * size + first);
            else for (int64_t i = 0; i < here; i++) rows[k][i] = images[k * size + first + i];
        }
        transpose<1>(rows);
        for (int64_t i = 0; i < here; i++) {
            store<LANES>(arena + target * LANES, rows[i]);
            target++;
            if (++x == row) {
                x = 0;
                target += in.pitch - row;
                if (++y == in.height) {
                    y = 0;
                    target = plane += in.plane;
                }
            }
        }
    }
}

template <class E> void general(const Step &s, const Buffer *b, E *arena, const Share &mine) {
    switch (s.kind) {
        case LINEAR: return linear<E>(s, b, arena, mine);
        case VIEWS: return views<E>(s, b, arena, mine);
        case POOL: return pool<E>(s, b, arena, mine);
        case MEAN: return mean<E>(s, b, arena, mine);
        default: return pointwise<E>(s, b, arena, mine);
    }
}

}  // namespace
