// What the engine is handed: a network as programs of steps over buffers. Python has the same structures (native.py).
#pragma once

#include <cstdint>

extern "C" {

struct Entry {
    int32_t offset;
    float weight;
};
struct __attribute__((packed)) ShortEntry {
    uint16_t offset;
    float weight;
};

struct Buffer {
    int64_t at;  // first element of channel 0's rows, in elements from the arena's beginning
    int32_t channels, height, width, pitch;
    int64_t plane;  // elements from one channel to the next
};

enum Kind : int32_t { INPUT, OUTPUT, CONV, LINEAR, VIEWS, POOL, ADD, ACTIVATE, MEAN, COPY, SCALE };
enum Act : int32_t { NONE, CLAMP, LEAKY, SILU, GELU, GELU_TANH, HARDSWISH, SIGMOID, HARDSIGMOID, TANH, ELU };

// Width of a CONV: so many filters share a list; or there are few entries, or as many filters as a vector holds share all
// taps.
enum Width : int32_t { FEW = 0, ONE = 1, FOUR = 4, DENSE = 16 };

struct Step {
    int32_t kind, in, other, out;    // buffers; `other` is a second input (residual, scale) or -1
    int32_t act;
    float low, high;                 // of CLAMP; of LEAKY and ELU `low` is the slope
    int32_t filters, width;          // CONV, LINEAR: filters, and which kernel (Width)
    int32_t lanes, tile, tiles;      // CONV, one image: vectors of `lanes`, `tile` of them at a time
    int32_t before, after;           // CONV, one image: how far the leftmost and rightmost taps are from the centre
    int32_t brief, base;             // CONV, one image: entries are short, and `base` is part of every offset
    int32_t parts;                   // CONV, one image: so many shares of the channels, each of all filters' lists (ONE)
    int32_t stride, rows, columns;   // CONV, block: stride and tile, `kernel_h` lists a filter; VIEWS: stride
    int32_t kernel_h, kernel_w, pad_h, pad_w, stride_h, stride_w, dilate_h, dilate_w;  // POOL; some of CONV, block
    int32_t average, count_pad;      // POOL: average instead of maximum, divided by the whole kernel
    int32_t views, channel;          // VIEWS: how many; COPY: first channel to write; INPUT, OUTPUT: number of it
    int32_t tokens;                  // INPUT, OUTPUT: the dense side is [column][channel], as tokens are
    int32_t halved;                  // CONV, one image: 2 x 2 maximum of the result; so many vectors are a row (0: none)
    const int32_t *starts;           // CONV, LINEAR: where each list of entries begins; DENSE: how many taps, and offsets
    const void *entries;             // Entry, ShortEntry, or offset and four weights; DENSE: weights
    const float *bias;
    const int32_t *up, *down, *valid;  // masks along a tile (up, down) and along the plane (valid; null: all valid)
    const int32_t *taps;             // VIEWS: (dy, dx) of each; a tap outside the image is zero
};

struct Program {
    const Buffer *buffers;
    const Step *steps;
    int32_t count, images;  // images: 1, or LANES for a block
};

// `whole` for one image; or `head` for each image of a block and then `tail` for the block, whose inputs are the last
// `bounds` outputs of the head. Sizes are floats per image: of inputs, then bounds; of outputs, then bounds.
struct Network {
    const Program *whole, *head, *tail;
    int32_t inputs, outputs, bounds, block;  // block: from so many images on, a block is quicker than one by one
    const int64_t *input_sizes, *output_sizes;
    int64_t cells[3];   // of the arenas of whole, head and tail; none may write into another's zeros
    int64_t worth;      // products of a weight and a value from which on it pays to divide them with one thread more
};

}  // extern "C"

namespace {

struct Entry4 {
    int32_t offset;
    float weight[4];
};

}  // namespace
