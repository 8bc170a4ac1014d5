// Convolutions of a block of images, one in each lane.
#pragma once

#include <algorithm>

#include "abi.h"
#include "activations.h"
#include "cells.h"
#include "simd.h"
#include "threads.h"
#include "windows.h"

namespace {

template <int R, int C> INLINE void conv_piece(const Step &s, const Cell *in, const Entry *e, const Entry *end, Cell *out,
                                               const Cell *other, float bias, int64_t in_row, int64_t out_row,
                                               int64_t other_row) {
    block acc[R * C];
    UNROLL for (int i = 0; i < R * C; i++) acc[i] = block{} + bias;
    const int64_t along = int64_t(s.stride) * LANES, down = s.stride * in_row * LANES;
    if constexpr (R * C < 4) {
        block more[R][C] = {};
        for (; end - e >= 2; e += 2) {
            const Cell *p = in + int64_t(e[0].offset) * LANES, *q = in + int64_t(e[1].offset) * LANES;
            UNROLL for (int r = 0; r < R; r++) UNROLL for (int c = 0; c < C; c++) {
                acc[r * C + c] += e[0].weight * load<LANES>(p + r * down + c * along);
                more[r][c] += e[1].weight * load<LANES>(q + r * down + c * along);
            }
        }
        UNROLL for (int r = 0; r < R; r++) UNROLL for (int c = 0; c < C; c++) acc[r * C + c] += more[r][c];
    }
    for (; e != end; e++) {
        const Cell *p = in + int64_t(e->offset) * LANES;
        UNROLL for (int r = 0; r < R; r++)
            UNROLL for (int c = 0; c < C; c++) acc[r * C + c] += e->weight * load<LANES>(p + r * down + c * along);
    }
    if (other)
        UNROLL for (int r = 0; r < R; r++)
            UNROLL for (int c = 0; c < C; c++) acc[r * C + c] += load<LANES>(other + (r * other_row + c) * LANES);
    activate_tile<LANES, R * C>(s, acc);
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int c = 0; c < C; c++) store<LANES>(out + (r * out_row + c) * LANES, acc[r * C + c]);
}

// The same for four filters, each input loaded once.
template <int R, int C> INLINE void conv_piece4(const Step &s, const Cell *in, const Entry4 *e, const Entry4 *end,
                                                Cell *out, const Cell *other, const float *bias, int filters,
                                                int64_t in_row, int64_t out_row, int64_t other_row, int64_t out_plane,
                                                int64_t other_plane) {
    block acc[4][R * C] = {};
    const int64_t along = int64_t(s.stride) * LANES, down = s.stride * in_row * LANES;
    for (; e != end; e++) {
        const Cell *p = in + int64_t(e->offset) * LANES;
        UNROLL for (int r = 0; r < R; r++) UNROLL for (int c = 0; c < C; c++) {
            const block x = load<LANES>(p + r * down + c * along);
            UNROLL for (int f = 0; f < 4; f++) acc[f][r * C + c] += e->weight[f] * x;
        }
    }
    for (int f = 0; f < filters; f++) {
        UNROLL for (int i = 0; i < R * C; i++) acc[f][i] += bias[f];
        if (other)
            UNROLL for (int r = 0; r < R; r++) UNROLL for (int c = 0; c < C; c++)
                acc[f][r * C + c] += load<LANES>(other + (f * other_plane + r * other_row + c) * LANES);
        activate_tile<LANES, R * C>(s, acc[f]);
        UNROLL for (int r = 0; r < R; r++) UNROLL for (int c = 0; c < C; c++)
            store<LANES>(out + (f * out_plane + r * out_row + c) * LANES, acc[f][r * C + c]);
    }
}

// A piece of the map: R rows and C columns from here on.
struct Here {
    const Cell *in, *other;
    Cell *out;
    int64_t in_row, out_row, other_row, out_plane, other_plane;
    int32_t from, until;  // the kernel's rows that meet the image, where each has a list of its own
    int32_t first, last;  // filters: from, and up to
};
typedef void (*Piece)(const Step &, const Here &);
template <int R, int C> void piece(const Step &s, const Here &at) {
    for (int f = at.first; f < at.last; f += s.width) {
        const int32_t *lists = s.starts + f / s.width * s.kernel_h, begin = lists[at.from], end = lists[at.until];
        Cell *out = at.out + f * at.out_plane * LANES;
        const Cell *other = at.other ? at.other + f * at.other_plane * LANES : nullptr;
        if (s.width == 1) {
            const Entry *e = static_cast<const Entry *>(s.entries);
            conv_piece<R, C>(s, at.in, e + begin, e + end, out, other, s.bias[f], at.in_row, at.out_row,
                             at.other_row);
        } else if constexpr (R * C * 4 <= REGISTERS - 8) {
            const Entry4 *e = static_cast<const Entry4 *>(s.entries);
            conv_piece4<R, C>(s, at.in, e + begin, e + end, out, other, s.bias + f, std::min(4, at.last - f),
                              at.in_row, at.out_row, at.other_row, at.out_plane, at.other_plane);
        }
    }
}
constexpr int MOST = REGISTERS == 32 ? 16 : 8;
template <int R> Piece find_columns(int c) {
    if constexpr (R * 4 <= MOST) if (c == 4) return piece<R, 4>;
    if constexpr (R * 3 <= MOST) if (c == 3) return piece<R, 3>;
    if constexpr (R * 2 <= MOST) if (c == 2) return piece<R, 2>;
    return piece<R, 1>;
}
Piece find_piece(int r, int c) {
    switch (r) {
        case 4: return find_columns<4>(c);
        case 3: return find_columns<3>(c);
        case 2: return find_columns<2>(c);
    }
    return find_columns<1>(c);
}

// Whether there is a kernel for tiles of up to `rows` x `columns`: with one of fewer columns, tiles would have gaps.
bool whole_piece(const Step &s) {
    const int r = s.rows, c = s.columns;
    if (r < 1 || r > 4 || c < 1 || c > 4 || (c > 1 && r * c > MOST)) return false;
    return s.width == 1 || (s.width == 4 && r * c * 4 <= REGISTERS - 8);
}

void conv_block(const Step &s, const Buffer *b, Cell *arena, const Share &mine) {
    const Buffer &in = b[s.in], &out = b[s.out], &other = b[s.other < 0 ? s.out : s.other];
    mine.each((out.height + s.rows - 1) / s.rows, s.filters, s.width, [&](int64_t strip, int32_t first, int32_t last) {
        const int y = int(strip) * s.rows;
        int from = 0, until = s.kernel_h;
        if (s.kernel_h > 1) {
            const Span met = span(y * s.stride - s.pad_h, s.kernel_h, s.dilate_h, in.height, s.pad_h);
            from = met.first, until = met.last;
        }
        for (int x = 0; x < out.width; x += s.columns) {
            const Here at{arena + (in.at + int64_t(y) * s.stride * in.pitch + x * s.stride) * LANES,
                          s.other < 0 ? nullptr : arena + (other.at + int64_t(y) * other.pitch + x) * LANES,
                          arena + (out.at + int64_t(y) * out.pitch + x) * LANES, in.pitch, out.pitch, other.pitch,
                          out.plane, other.plane, from, until, first, last};
            find_piece(std::min(s.rows, out.height - y), std::min(s.columns, out.width - x))(s, at);
        }
    });
}

}  // namespace
