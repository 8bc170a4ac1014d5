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
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <pthread.h>
#include <sched.h>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

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

// Off the processor `taken`, if this thread is there and may be elsewhere. A thread that wakes is often put beside the one
// that woke it, and as the two wait for each other by turns, neither seems idle enough to be moved for many milliseconds.
void away_from(int taken) {
#ifdef __linux__
    cpu_set_t allowed, others;
    if (taken < 0 || sched_getcpu() != taken || sched_getaffinity(0, sizeof allowed, &allowed)) return;
    others = allowed;
    CPU_CLR(taken, &others);
    if (CPU_COUNT(&others) && !sched_setaffinity(0, sizeof others, &others)) sched_setaffinity(0, sizeof allowed, &allowed);
#else
    (void)taken;
#endif
}
int processor() {
#ifdef __linux__
    return sched_getcpu();
#else
    return -1;
#endif
}

// One turn of waiting awake; after many the processor is left to others.
constexpr int AWAKE = 2000;
INLINE void rest(int turns) {
    if (turns > AWAKE) std::this_thread::yield();
}

// Threads at work on the same image, or block of images: each does its share of a step, and none begins the next before
// all are done. They wait awake, for steps are short.
class Team {
  public:
    explicit Team(int32_t members) : members(members) {}
    void wait(int32_t me) {
        if (members < 2) return;
        const int32_t now = round.load(std::memory_order_acquire);
        if (me == 0) first.store(processor(), std::memory_order_relaxed);
        if (arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == members) {
            arrived.store(0, std::memory_order_relaxed);
            round.store(now + 1, std::memory_order_release);
        } else {
            for (int turns = 0; round.load(std::memory_order_acquire) == now; turns++) {
                if (turns == AWAKE && me) away_from(first.load(std::memory_order_relaxed));
                rest(turns);
            }
        }
    }
    const int32_t members;

  private:
    std::atomic<int32_t> arrived{0}, round{0};
    std::atomic<int> first{-1};  // the processor that the first of them is on
};

// What one of a team does of what can be divided: the same numbers whoever does them.
struct Share {
    Team &team;
    int32_t me;
    int64_t from(int64_t count) const { return count * me / team.members; }
    int64_t until(int64_t count) const { return count * (me + 1) / team.members; }
    // `task(place, first, last)` for this one's share of all filters, `at_once` of them undivided, at all places.
    template <class Task> void each(int64_t places, int32_t filters, int32_t at_once, const Task &task) const {
        const int64_t groups = (filters + at_once - 1) / at_once, end = until(places * groups);
        for (int64_t unit = from(places * groups), count; unit < end; unit += count) {
            const int64_t first = unit % groups;
            count = std::min(groups - first, end - unit);
            task(unit / groups, int32_t(first * at_once), int32_t(std::min<int64_t>(filters, (first + count) * at_once)));
        }
    }
};

}  // namespace

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
    int64_t floats[3];  // of the arenas of whole, head and tail; none may write into another's zeros
    int64_t worth;      // products of a weight and a value from which on it pays to divide them with one thread more
};

}  // extern "C"

namespace {

struct Entry4 {
    int32_t offset;
    float weight[4];
};

// ---- activations ---------------------------------------------------------------------------------------------------

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

// ---- convolution of one image --------------------------------------------------------------------------------------

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
template <int L, int T, class E> INLINE void accumulate(vec<L> (&acc)[T], const float *in, const E *e, const E *end) {
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
        const float *p = in + e->offset;
        if (CHAINS == 1) __builtin_prefetch(e + AHEAD / sizeof *e);
        UNROLL for (int t = 0; t < T; t++) acc[t] += e->weight * load<L>(p + t * L);
    }
}
template <int L, int T> INLINE void accumulate(vec<L> (&acc)[4][T], const float *in, const Entry4 *e, const Entry4 *end) {
    for (; e != end; e++) {
        const float *p = in + e->offset;
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
template <int L, int T, int R> INLINE void store_halved(const vec<L> (&acc)[T], float *out) {
    vec<L> rows[T / 2];
    UNROLL for (int t = 0; t < T / 2; t++) rows[t] = largest(acc[t / R * 2 * R + t % R], acc[t / R * 2 * R + t % R + R]);
    UNROLL for (int t = 0; t < T / 4; t++) store<L>(out + t * L, neighbours<L>(rows[2 * t], rows[2 * t + 1]));
}

// What was summed so far lies where the result will; `other` may be the same place, and goes into the first sum.
template <int L, int T> INLINE void finish(const Step &s, vec<L> (&acc)[T], float bias, float *out, const float *other,
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
    const float *in, *other;
    float *out;
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
template <int L, int T> INLINE void accumulate_beside(vec<L> (&acc)[T], const float *in, const Entry *e, const Entry *end,
                                                      int shift, const int32_t *m) {
    for (; e != end; e++) {
        const float *p = in + e->offset + shift;
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
            const float *x = at.in + offset[k];
            UNROLL for (int g = 0; g < G; g++) {
                __builtin_prefetch(weight + g * LANES + AHEAD / sizeof *weight);
                const block w = load<LANES>(weight + g * LANES);
                UNROLL for (int p = 0; p < P; p++) acc[g][p] += w * x[p];
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

void conv(const Step &s, const Buffer *b, float *arena, const Share &mine) {
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

// A window along one axis: the place of its first tap, which of its taps are in the image, and how many in the padded
// border (a window may hang over that, with ceil_mode).
struct Span {
    int at, first, last, bordered;
};
INLINE Span span(int at, int kernel, int dilate, int size, int pad) {
    const int first = std::min(kernel, at < 0 ? (dilate - 1 - at) / dilate : 0);
    const auto until = [=](int end) { return std::min(kernel, (end - at + dilate - 1) / dilate); };
    return {at, first, std::max(first, until(size)), until(size + pad)};
}

// ---- convolution of a block of images ------------------------------------------------------------------------------

template <int R, int C> INLINE void conv_piece(const Step &s, const float *in, const Entry *e, const Entry *end, float *out,
                                               const float *other, float bias, int64_t in_row, int64_t out_row,
                                               int64_t other_row) {
    block acc[R * C];
    UNROLL for (int i = 0; i < R * C; i++) acc[i] = block{} + bias;
    const int64_t along = int64_t(s.stride) * LANES, down = s.stride * in_row * LANES;
    if constexpr (R * C < 4) {
        block more[R][C] = {};
        for (; end - e >= 2; e += 2) {
            const float *p = in + int64_t(e[0].offset) * LANES, *q = in + int64_t(e[1].offset) * LANES;
            UNROLL for (int r = 0; r < R; r++) UNROLL for (int c = 0; c < C; c++) {
                acc[r * C + c] += e[0].weight * load<LANES>(p + r * down + c * along);
                more[r][c] += e[1].weight * load<LANES>(q + r * down + c * along);
            }
        }
        UNROLL for (int r = 0; r < R; r++) UNROLL for (int c = 0; c < C; c++) acc[r * C + c] += more[r][c];
    }
    for (; e != end; e++) {
        const float *p = in + int64_t(e->offset) * LANES;
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
template <int R, int C> INLINE void conv_piece4(const Step &s, const float *in, const Entry4 *e, const Entry4 *end,
                                                float *out, const float *other, const float *bias, int filters,
                                                int64_t in_row, int64_t out_row, int64_t other_row, int64_t out_plane,
                                                int64_t other_plane) {
    block acc[4][R * C] = {};
    const int64_t along = int64_t(s.stride) * LANES, down = s.stride * in_row * LANES;
    for (; e != end; e++) {
        const float *p = in + int64_t(e->offset) * LANES;
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
    const float *in, *other;
    float *out;
    int64_t in_row, out_row, other_row, out_plane, other_plane;
    int32_t from, until;  // the kernel's rows that meet the image, where each has a list of its own
    int32_t first, last;  // filters: from, and up to
};
typedef void (*Piece)(const Step &, const Here &);
template <int R, int C> void piece(const Step &s, const Here &at) {
    for (int f = at.first; f < at.last; f += s.width) {
        const int32_t *lists = s.starts + f / s.width * s.kernel_h, begin = lists[at.from], end = lists[at.until];
        float *out = at.out + f * at.out_plane * LANES;
        const float *other = at.other ? at.other + f * at.other_plane * LANES : nullptr;
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

void conv_block(const Step &s, const Buffer *b, float *arena, const Share &mine) {
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

// ---- everything else, on elements of either kind -------------------------------------------------------------------

template <class E> INLINE E active(const Step &s, E x);
template <> INLINE float active<float>(const Step &s, float x) { return activated<4>(s, vec<4>{x})[0]; }
template <> INLINE block active<block>(const Step &s, block x) { return activated<LANES>(s, x); }

template <class E> void linear(const Step &s, const Buffer *b, E *arena, const Share &mine) {
    const E *in = arena + b[s.in].at;
    const Entry *entries = static_cast<const Entry *>(s.entries);
    for (int64_t f = mine.from(s.filters); f < mine.until(s.filters); f++) {
        const Entry *e = entries + s.starts[f], *end = entries + s.starts[f + 1];
        E acc[4] = {E{} + s.bias[f]};
        for (; end - e >= 4; e += 4)
            UNROLL for (int i = 0; i < 4; i++) acc[i] += e[i].weight * in[e[i].offset];
        for (; e != end; e++) acc[0] += e->weight * in[e->offset];
        E sum = (acc[0] + acc[1]) + (acc[2] + acc[3]);
        if (s.other >= 0) sum += arena[b[s.other].at + f * b[s.other].plane];
        arena[b[s.out].at + f * b[s.out].plane] = active<E>(s, sum);
    }
}

// With stride 2 and all four views, rows are taken apart into even and odd elements, W at a time; returns where it ends.
template <int W> INLINE int apart(const float *source, float *evens, float *odds, int x, int width) {
    const auto lanes = std::make_integer_sequence<int, W>();
    for (; x + W <= width; x += W) {
        const vec<W> first = load<W>(source + 2 * x), last = load<W>(source + 2 * x + W);
        store<W>(evens + x, even(first, last, lanes));
        store<W>(odds + x, odd(first, last, lanes));
    }
    return x;
}
void quarters(const Buffer &in, const Buffer &out, float *arena, const Share &mine) {
    for (int64_t c = mine.from(in.channels); c < mine.until(in.channels); c++)
        for (int y = 0; y < in.height; y++) {
            const float *source = arena + in.at + c * in.plane + int64_t(y) * in.pitch;
            float *evens = arena + out.at + (c * 4 + y % 2 * 2) * out.plane + int64_t(y / 2) * out.pitch;
            const int x = apart<LANES>(source, evens, evens + out.plane, 0, out.width);
            apart<4>(source, evens, evens + out.plane, x, out.width);
        }
}
bool all_quarters(const Step &s, const Buffer &in, const Buffer &out) {
    const int32_t *t = s.taps;
    return s.stride == 2 && s.views == 4 && 2 * out.width == in.width && out.width % 4 == 0 && !t[0] && !t[1] && !t[2] &&
           t[3] == 1 && t[4] == 1 && !t[5] && t[6] == 1 && t[7] == 1;
}

// target[x] = source[x * stride]; may read one float beyond the last.
template <class E> INLINE void take(E *target, const E *source, int count, int stride) {
    int x = 0;
    if constexpr (std::is_same_v<E, float>)
        for (; stride == 2 && x + LANES <= count; x += LANES)
            store<LANES>(target + x, even(load<LANES>(source + 2 * x), load<LANES>(source + 2 * x + LANES),
                                          std::make_integer_sequence<int, LANES>()));
    if (stride == 1) std::copy(source + x, source + count, target + x);
    else for (; x < count; x++) target[x] = source[int64_t(x) * stride];
}

template <class E> void views(const Step &s, const Buffer *b, E *arena, const Share &mine) {
    const Buffer &in = b[s.in], &out = b[s.out];
    if constexpr (std::is_same_v<E, float>)
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
        target[x] = largest<E>(largest<E>(a[2 * x], below[2 * x]), largest<E>(a[2 * x + 1], below[2 * x + 1]));
}
template <class E, int W> void halve(const Buffer &in, const Buffer &out, E *arena, const Share &mine) {
    for (int64_t c = mine.from(out.channels); c < mine.until(out.channels); c++)
        for (int y = 0; y < out.height; y++) {
            const E *a = arena + in.at + c * in.plane + int64_t(2 * y) * in.pitch, *below = a + in.pitch;
            E *target = arena + out.at + c * out.plane + int64_t(y) * out.pitch;
            int x = 0;
            if constexpr (std::is_same_v<E, float> && !W)
                for (; x + 8 <= out.width; x += 8) {
                    const float *p = a + 2 * x, *q = below + 2 * x;
                    store<8>(target + x, neighbours<8>(largest(load<8>(p), load<8>(q)), largest(load<8>(p + 8), load<8>(q + 8))));
                }
            halve_row<E, W>(a + 2 * x, below + 2 * x, target + x, out.width - x);
        }
}

// made[x] and read[x * stride], summed or the larger of them; may read one float beyond the last.
template <bool SUM, class E> INLINE E joined(E a, E b) {
    if constexpr (SUM) return a + b;
    else return largest<E>(a, b);
}
template <bool SUM, class E> void join(E *made, const E *read, int count, int stride) {
    int x = 0;
    if constexpr (std::is_same_v<E, float>) {
        const auto lanes = std::make_integer_sequence<int, LANES>();
        for (; stride == 1 && x + LANES <= count; x += LANES)
            store<LANES>(made + x, joined<SUM>(load<LANES>(made + x), load<LANES>(read + x)));
        for (; stride == 2 && x + LANES <= count; x += LANES)
            store<LANES>(made + x, joined<SUM>(load<LANES>(made + x),
                                               even(load<LANES>(read + 2 * x), load<LANES>(read + 2 * x + LANES), lanes)));
    }
    for (; x < count; x++) made[x] = joined<SUM>(made[x], read[int64_t(x) * stride]);
}

// Windows one way after the other: the rows that a row of windows meets become one, whose columns are joined then.
template <class E, bool SUM>
void windows(const Step &s, const Buffer &in, const Buffer &out, E *arena, const Share &mine) {
    const E none = E{} + (SUM ? 0.0f : -std::numeric_limits<float>::infinity());
    std::vector<E> row(in.width + 1);
    for (int64_t c = mine.from(out.channels); c < mine.until(out.channels); c++) {
        const E *plane = arena + in.at + c * in.plane;
        for (int y = 0; y < out.height; y++) {
            const Span down = span(y * s.stride_h - s.pad_h, s.kernel_h, s.dilate_h, in.height, s.pad_h);
            E *target = arena + out.at + c * out.plane + int64_t(y) * out.pitch;
            std::fill(row.begin(), row.end(), none);
            std::fill(target, target + out.width, none);
            for (int sy = down.first; sy < down.last; sy++)
                join<SUM, E>(row.data(), plane + int64_t(down.at + sy * s.dilate_h) * in.pitch, in.width, 1);
            for (int sx = 0; sx < s.kernel_w; sx++) {
                const int left = s.pad_w - sx * s.dilate_w;  // of the image, in the first window
                const int first = std::max(0, left + s.stride_w - 1) / s.stride_w;
                const int last = std::min(out.width, (in.width + left + s.stride_w - 1) / s.stride_w);
                if (first < last)
                    join<SUM, E>(target + first, row.data() + first * s.stride_w - left, last - first, s.stride_w);
            }
            for (int x = 0; x < out.width; x++) {
                if constexpr (SUM) {
                    const Span along = span(x * s.stride_w - s.pad_w, s.kernel_w, s.dilate_w, in.width, s.pad_w);
                    target[x] = target[x] / (s.count_pad ? float(down.bordered) * float(along.bordered)
                                                         : float(down.last - down.first) * float(along.last - along.first));
                }
                if (s.act != NONE) target[x] = active<E>(s, target[x]);
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
                for (int x = 0; x < in.width; x++) target[x] = active<E>(s, source[x] + other[x]);
            } else if (s.kind == SCALE) {
                const E factor = arena[b[s.other].at + c * b[s.other].plane];
                for (int x = 0; x < in.width; x++) target[x] = active<E>(s, source[x] * factor);
            } else {
                for (int x = 0; x < in.width; x++) target[x] = active<E>(s, source[x]);
            }
        }
}

template <class E> void mean(const Step &s, const Buffer *b, E *arena, const Share &mine) {
    const Buffer &in = b[s.in], &out = b[s.out];
    const float count = float(in.height) * float(in.width);
    for (int64_t c = mine.from(in.channels); c < mine.until(in.channels); c++) {
        E sum{};
        for (int y = 0; y < in.height; y++) {
            const E *row = arena + in.at + c * in.plane + int64_t(y) * in.pitch;
            E parts[4] = {};
            int x = 0;
            for (; x + 4 <= in.width; x += 4)
                UNROLL for (int i = 0; i < 4; i++) parts[i] += row[x + i];
            for (; x < in.width; x++) parts[0] += row[x];
            sum += (parts[0] + parts[1]) + (parts[2] + parts[3]);
        }
        arena[out.at + c * out.plane] = active<E>(s, sum / count);
    }
}

// Dense values of one image, and the planes' elements; `step` floats lie between an element and the next.
template <int STEP>
void read_in(const Step &s, const Buffer &in, const float *image, float *arena, const Share &mine) {
    const int64_t along = s.tokens ? in.channels : 1, down = s.tokens ? 1 : int64_t(in.height) * in.width;
    const int64_t rows = int64_t(in.channels) * in.height;
    for (int64_t row = mine.from(rows); row < mine.until(rows); row++) {
        const int64_t c = row / in.height, y = row % in.height;
        const float *source = image + c * down + y * in.width;
        float *target = arena + (in.at + c * in.plane + y * in.pitch) * STEP;
        for (int x = 0; x < in.width; x++) target[x * STEP] = source[x * along];
    }
}
template <int STEP> void write_out(const Step &s, const Buffer &out, const float *arena, float *image) {
    const int64_t along = s.tokens ? out.channels : 1, down = s.tokens ? 1 : int64_t(out.height) * out.width;
    for (int c = 0; c < out.channels; c++)
        for (int y = 0; y < out.height; y++) {
            const float *source = arena + (out.at + c * out.plane + int64_t(y) * out.pitch) * STEP;
            float *target = image + c * down + int64_t(y) * out.width;
            for (int x = 0; x < out.width; x++) target[x * along] = source[x * STEP];
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
void read_block(const Buffer &in, const float *images, float *arena) {
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

int64_t elements(const Buffer &b) { return int64_t(b.channels) * b.height * b.width; }

// `given` and `wanted` hold a pointer for each number of an INPUT or OUTPUT step, to the first image's values.
void pass(const Program &p, float *arena, const float *const *given, float *const *wanted, int64_t count,
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
            general<float>(s, p.buffers, arena, mine);
        } else {
            general<block>(s, p.buffers, reinterpret_cast<block *>(arena), mine);
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
void work(const Network &n, const float *const *given, float *const *wanted, int64_t first, int64_t last, float *arena,
          const Share &mine) {
    float *const early = arena + n.floats[0], *const late = early + n.floats[1], *const bounds = late + n.floats[2];
    std::vector<const float *> in(n.inputs + n.bounds);
    std::vector<float *> out(n.outputs + n.bounds);
    float *at = bounds;
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

// ---- threads -------------------------------------------------------------------------------------------------------

typedef std::function<void(int32_t)> Task;

// Threads that are there for the next call: a while awake, since it often comes at once, and then asleep.
class Crew {
  public:
    // How many there are of `wanted` threads, this one counted, which is never hired.
    int32_t hire(int32_t wanted) {
        try {
            while (1 + int32_t(hands.size()) < wanted) {
                hands.push_back(std::make_unique<Hand>());
                Hand *hand = hands.back().get();
                try {
                    std::thread([hand] { hand->serve(); }).detach();
                } catch (const std::exception &) {
                    hands.pop_back();
                    throw;
                }
            }
        } catch (const std::exception &) {  // no more can be had
        }
        return std::min(wanted, 1 + int32_t(hands.size()));
    }

    // `task(0)` on this thread and the others up to `task(count - 1)`, of no more than were hired, beside it.
    void run(int32_t count, const Task &task) {
        const int here = processor();
        for (int32_t t = 1; t < count; t++) hands[t - 1]->begin(task, t, here);
        task(0);
        for (int32_t t = 1; t < count; t++) hands[t - 1]->finish();
    }

  private:
    class Hand {
      public:
        void begin(const Task &task, int32_t number, int beside) {
            me = number, taken = beside;
            job.store(&task, std::memory_order_release);
            { std::lock_guard<std::mutex> held(door); }  // not between the sleeper's last look and its sleep
            bell.notify_one();
        }
        void finish() const {
            for (int turns = 0; job.load(std::memory_order_acquire); turns++) rest(turns);
        }
        void serve() {
            while (true) {
                const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(200);
                while (!job.load(std::memory_order_acquire) && std::chrono::steady_clock::now() < until) {
                }
                if (!job.load(std::memory_order_acquire)) {
                    std::unique_lock<std::mutex> held(door);
                    bell.wait(held, [this] { return job.load(std::memory_order_acquire) != nullptr; });
                }
                away_from(taken);
                (*job.load(std::memory_order_acquire))(me);
                job.store(nullptr, std::memory_order_release);
            }
        }

      private:
        std::atomic<const Task *> job{nullptr};
        int32_t me = 0;
        int taken = -1;
        std::mutex door;
        std::condition_variable bell;
    };
    std::vector<std::unique_ptr<Hand>> hands;
};

// Crews that no call uses now. Nothing of it ends with the process, for its threads are never joined; in a child of a fork,
// where they are not, there is a new one.
struct Crews {
    std::mutex door;
    std::vector<Crew *> idle;
};
std::atomic<Crews *> crews{nullptr};
void forget_crews() { crews.store(new Crews); }
Crews &known_crews() {
    static const bool begun = [] {
        forget_crews();
        pthread_atfork(nullptr, nullptr, forget_crews);
        return true;
    }();
    (void)begun;
    return *crews.load();
}

// A crew for as long as a call lasts.
class Borrowed {
  public:
    Borrowed() : from(known_crews()) {
        std::lock_guard<std::mutex> held(from.door);
        if (from.idle.empty()) from.idle.push_back(new Crew);
        crew = from.idle.back();
        from.idle.pop_back();
    }
    ~Borrowed() {
        std::lock_guard<std::mutex> held(from.door);
        from.idle.push_back(crew);
    }
    Crew *operator->() const { return crew; }

  private:
    Crews &from;
    Crew *crew;
};

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
        SIZE(Entry), SIZE(ShortEntry), SIZE(Entry4), SIZE(Buffer), SIZE(Step), SIZE(Program), SIZE(Network),
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
        FIELD(Network, output_sizes), FIELD(Network, floats), FIELD(Network, worth),
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
              float *const *arenas) {
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

}  // extern "C"
