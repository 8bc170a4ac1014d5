// Windows of a kernel along one axis.
#pragma once

#include <algorithm>

#include "simd.h"

namespace {

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

}  // namespace
