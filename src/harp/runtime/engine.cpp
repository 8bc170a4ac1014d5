// The sparse engine: a network as a list of steps over padded planes, run image by image or in blocks of images.
//
// Two layouts of one idea. An *element* is one float (one image) or one vector of LANES floats (a block of images, one
// lane each). A buffer holds one plane of elements per channel: `top` zero elements, then rows of `pitch` elements,
// then zeros again. The zeros are written once, when the arena is made, and stand for the padding of convolutions.
//
// A convolution reads every non-zero weight as (offset, weight): offset leads from an output position to the input
// element under that tap. For one image the vectors run along the flattened plane, and taps left or right of the centre
// are accumulated where they lie and shifted afterwards, once per tap column and not once per weight, so that every load
// is aligned. For a block of images a vector is one element and nothing needs shifting.
//
// Plain C interface, no dependence on Python or PyTorch. Everything here trusts its caller, program.py, which
// derives all offsets from checked shapes.
#include <cstddef>
#include <new>
#include <string>

#include "harp.h"
#include "kernels/block.h"
#include "kernels/elements.h"
#include "kernels/image.h"
#include "kernels/plans.h"

namespace {

int64_t elements(const Buffer &b) { return int64_t(b.channels) * b.height * b.width; }

// `given` and `wanted` hold a pointer for each number of an INPUT or OUTPUT step, to the first image's values.
void pass(const Program &p, Cell *arena, const float *const *given, float *const *wanted, int64_t count,
          const Share &mine) {
    for (int32_t i = 0; i < p.count; i++) {
        const Step &s = p.steps[i];
        if (s.kind == INPUT) {
            const Buffer &b = p.buffers[s.out];
            if (p.images == LANES && count == LANES) {
                if (mine.me == 0) read_block(b, given[s.channel], arena);
            } else {
                for (int64_t k = 0; k < count; k++)
                    if (p.images == 1) read_in<1>(s, b, given[s.channel] + k * elements(b), arena, mine);
                    else read_in<LANES>(s, b, given[s.channel] + k * elements(b), arena + k, mine);
            }
        } else if (s.kind == OUTPUT) {
            const Buffer &b = p.buffers[s.in];
            for (int64_t k = 0; k < count && mine.me == 0; k++)
                if (p.images == 1) write_out<1>(s, b, arena, wanted[s.channel] + k * elements(b));
                else write_out<LANES>(s, b, arena + k, wanted[s.channel] + k * elements(b));
        } else if (s.kind == CONV) {
            if (p.images == 1) conv(s, p.buffers, arena, mine);
            else conv_block(s, p.buffers, arena, mine);
        } else if (p.images == 1) {
            general<Cell>(s, p.buffers, arena, mine);
        } else {
            general<Cells>(s, p.buffers, reinterpret_cast<Cells *>(arena), mine);
        }
        mine.team.wait(mine.me);
    }
}

// Whether a kernel runs the step, for one image or for a block of them.
bool runs(const Step &s, bool block) {
    if (s.kind < INPUT || s.kind > SCALE || s.act < NONE || s.act > ELU) return false;
    if (s.kind != CONV) return true;
    if (block) return whole_piece(s);
    return find_tile(s) != nullptr && (s.parts == 1 || (s.parts > 1 && s.width == ONE && !s.halved));
}

// The images from `first` to `last`, in blocks as far as that is quicker; all of a team call it alike.
void work(const Network &n, const float *const *given, float *const *wanted, int64_t first, int64_t last, Cell *arena,
          const Share &mine) {
    Cell *const early = arena + n.cells[0], *const late = early + n.cells[1];
    std::vector<const float *> in(n.inputs + n.bounds);
    std::vector<float *> out(n.outputs + n.bounds);
    float *at = reinterpret_cast<float *>(late + n.cells[2]);  // what the head hands to the tail is dense
    for (int32_t i = 0; i < n.bounds; i++) {
        in[n.inputs + i] = at;
        at += n.input_sizes[n.inputs + i] * LANES;
    }
    while (first < last) {
        const int64_t count = std::min<int64_t>(last - first, LANES);
        const bool block = n.tail && count >= n.block;
        for (int64_t k = 0; k < (block ? count : 1); k++) {
            for (int32_t i = 0; i < n.inputs; i++) in[i] = given[i] + (first + k) * n.input_sizes[i];
            for (int32_t i = 0; i < n.outputs; i++) out[i] = wanted[i] + (first + k) * n.output_sizes[i];
            for (int32_t i = 0; i < n.bounds; i++)
                out[n.outputs + i] = const_cast<float *>(in[n.inputs + i]) + k * n.output_sizes[n.outputs + i];
            pass(block ? *n.head : *n.whole, block ? early : arena, in.data(), out.data(), 1, mine);
        }
        if (block) {
            for (int32_t i = 0; i < n.inputs; i++) in[i] = given[i] + first * n.input_sizes[i];
            for (int32_t i = 0; i < n.outputs; i++) out[i] = wanted[i] + first * n.output_sizes[i];
            pass(*n.tail, late, in.data(), out.data(), count, mine);
        }
        first += block ? count : 1;
    }
}

// Products of a weight and a value that one image takes, padding of tiles included.
int64_t products(const Program &p) {
    int64_t sum = 0;
    for (int32_t i = 0; i < p.count; i++) {
        const Step &s = p.steps[i];
        const int64_t lists = s.before + 1 + s.after, places = int64_t(s.lanes) * s.tile * s.tiles;
        if (s.kind == LINEAR) sum += s.starts[s.filters] - s.starts[0];
        if (s.kind != CONV) continue;
        if (s.width == DENSE) sum += int64_t(s.starts[0]) * s.filters * places;
        else if (s.width == FOUR) sum += int64_t(s.starts[(s.filters + 3) / 4 * lists] - s.starts[0]) * 4 * places;
        else sum += int64_t(s.starts[s.filters * s.parts * lists] - s.starts[0]) * places;
    }
    return sum;
}

}  // namespace

extern "C" {

EXPORT int32_t harp_lanes() { return LANES; }
EXPORT int32_t harp_registers() { return REGISTERS; }

// What lies where, and which number stands for what: a caller compares this, by name, with its own idea of it.
EXPORT const char *harp_layout() {
#define SIZE(S) {#S, int64_t(sizeof(S))}
#define FIELD(S, F) {#S "." #F, int64_t(offsetof(S, F))}
#define NUMBER(E, N) {#E "." #N, int64_t(N)}
    static const std::pair<const char *, int64_t> parts[] = {
        SIZE(Cell), SIZE(Entry), SIZE(ShortEntry), SIZE(Entry4), SIZE(Buffer), SIZE(Step), SIZE(Program), SIZE(Network),
        FIELD(Buffer, at), FIELD(Buffer, channels), FIELD(Buffer, height), FIELD(Buffer, width), FIELD(Buffer, pitch),
        FIELD(Buffer, plane),
        FIELD(Step, kind), FIELD(Step, in), FIELD(Step, other), FIELD(Step, out), FIELD(Step, act), FIELD(Step, low),
        FIELD(Step, high), FIELD(Step, filters), FIELD(Step, width), FIELD(Step, lanes), FIELD(Step, tile),
        FIELD(Step, tiles), FIELD(Step, before), FIELD(Step, after), FIELD(Step, brief), FIELD(Step, base), FIELD(Step, parts),
        FIELD(Step, stride), FIELD(Step, rows), FIELD(Step, columns), FIELD(Step, kernel_h), FIELD(Step, kernel_w),
        FIELD(Step, pad_h), FIELD(Step, pad_w), FIELD(Step, stride_h), FIELD(Step, stride_w), FIELD(Step, dilate_h),
        FIELD(Step, dilate_w), FIELD(Step, average), FIELD(Step, count_pad), FIELD(Step, views), FIELD(Step, channel),
        FIELD(Step, tokens), FIELD(Step, halved), FIELD(Step, starts), FIELD(Step, entries), FIELD(Step, bias),
        FIELD(Step, up), FIELD(Step, down), FIELD(Step, valid), FIELD(Step, taps),
        FIELD(Program, buffers), FIELD(Program, steps), FIELD(Program, count), FIELD(Program, images),
        FIELD(Network, whole), FIELD(Network, head), FIELD(Network, tail), FIELD(Network, inputs),
        FIELD(Network, outputs), FIELD(Network, bounds), FIELD(Network, block), FIELD(Network, input_sizes),
        FIELD(Network, output_sizes), FIELD(Network, cells), FIELD(Network, worth),
        NUMBER(Kind, INPUT), NUMBER(Kind, OUTPUT), NUMBER(Kind, CONV), NUMBER(Kind, LINEAR), NUMBER(Kind, VIEWS),
        NUMBER(Kind, POOL), NUMBER(Kind, ADD), NUMBER(Kind, ACTIVATE), NUMBER(Kind, MEAN), NUMBER(Kind, COPY),
        NUMBER(Kind, SCALE),
        NUMBER(Act, NONE), NUMBER(Act, CLAMP), NUMBER(Act, LEAKY), NUMBER(Act, SILU), NUMBER(Act, GELU),
        NUMBER(Act, GELU_TANH), NUMBER(Act, HARDSWISH), NUMBER(Act, SIGMOID), NUMBER(Act, HARDSIGMOID),
        NUMBER(Act, TANH), NUMBER(Act, ELU),
        NUMBER(Width, FEW), NUMBER(Width, ONE), NUMBER(Width, FOUR), NUMBER(Width, DENSE)};
    static const std::string text = [] {
        std::string all;
        for (const auto &part : parts) all += std::string(part.first) + " " + std::to_string(part.second) + "\n";
        return all;
    }();
    return text.c_str();
}

// The first step of a program that no kernel of this build runs; -1 where there is none. A caller asks before it runs
// one: a step without a kernel would be a call of nothing, or leave part of its result out.
EXPORT int32_t harp_strange(const Program *p) {
    if (p->images != 1 && p->images != LANES) return 0;
    for (int32_t i = 0; i < p->count; i++)
        if (!runs(p->steps[i], p->images != 1)) return i;
    return -1;
}

// All images, shared out to threads in whole blocks; or all threads at work on one after the other, where there are so few
// images that half of the threads would wait, and work enough in each. `given` and `wanted` hold dense values [image][...];
// as many arenas as there are images, and threads, are of zeros at first, for the three programs and the bounds of a
// block, and stay a thread's own between calls.
EXPORT void harp_run(const Network *n, const float *const *given, float *const *wanted, int64_t images, int32_t threads,
              Cell *const *arenas) {
    // In whole blocks where there are blocks, so that no more of them are ragged than must be.
    const int64_t unit = n->tail ? LANES : 1, units = (images + unit - 1) / unit;
    const int32_t side = int32_t(std::max<int64_t>(1, std::min<int64_t>(threads, units)));
    int32_t members = int32_t(std::min<int64_t>(threads, products(*n->whole) * unit / n->worth));
    if (side == 1 && members < 2) {
        Team alone(1);
        return work(*n, given, wanted, 0, images, arenas[0], Share{alone, 0});
    }
    Borrowed crew;
    if (members >= 2 * side) {
        Team team(members = crew->hire(members));
        return crew->run(members, [&](int32_t t) { work(*n, given, wanted, 0, images, arenas[0], Share{team, t}); });
    }
    const int32_t hired = crew->hire(side);
    crew->run(hired, [&](int32_t t) {
        Team alone(1);
        const int64_t first = std::min(images, units * t / hired * unit);
        const int64_t last = std::min(images, units * (t + 1) / hired * unit);
        work(*n, given, wanted, first, last, arenas[t], Share{alone, 0});
    });
}

EXPORT uint64_t harp_fingerprint() { return fingerprint(harp_layout()); }

// What harp.h declares, for programs without Python.
EXPORT harp_network *harp_open(const char *path, const char **why) {
    harp_network *made = new (std::nothrow) harp_network;
    const char *wrong = made ? read_plan(path, harp_layout(), *made) : "there is not enough memory";
    for (const Program *p : {made && !wrong ? made->network->whole : nullptr, made && !wrong ? made->network->tail : nullptr})
        if (p && harp_strange(p) >= 0) wrong = "the plan has a step that no kernel of this build runs";
    if (why) *why = wrong;
    if (!wrong) return made;
    delete made;
    return nullptr;
}
EXPORT int64_t harp_image_size(const harp_network *network) { return network->network->input_sizes[0]; }
EXPORT int64_t harp_logit_count(const harp_network *network) { return network->network->output_sizes[0]; }
EXPORT int harp_logits(harp_network *network, const float *images, int64_t count, int32_t threads, float *logits) {
    if (count < 1 || threads < 1) return 1;
    try {
        std::vector<Cell *> places;
        for (int64_t t = 0; t < std::min<int64_t>(count, threads); t++) {
            if (t == int64_t(network->arenas.size())) {
                Memory arena = zeros(network->cells * int64_t(sizeof(Cell)));
                if (!arena) return 1;
                network->arenas.push_back(std::move(arena));
            }
            places.push_back(reinterpret_cast<Cell *>(network->arenas[t].get()));
        }
        harp_run(network->network, &images, &logits, count, threads, places.data());
    } catch (const std::bad_alloc &) {
        return 1;
    }
    return 0;
}
EXPORT void harp_close(harp_network *network) { delete network; }

}  // extern "C"
