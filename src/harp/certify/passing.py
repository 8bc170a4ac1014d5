"""What each operator makes of intervals."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, conv1d, conv2d, linear, pad

from harp.certify.rounding import LARGE, OWN, TINY, Interval, Rounding
from harp.errors import HarpError
from harp.graph import Node

Rule = Callable[[Node, tuple[Any, ...], Rounding], Interval]
"""The interval of what a node makes, from its arguments: intervals for what depends on the image, else numbers."""

_EXACT = """
view reshape flatten.using_ints unflatten.int permute transpose.int t unsqueeze squeeze squeeze.dim squeeze.dims expand
slice.Tensor select.int narrow clone cat stack flip roll repeat reflection_pad2d replication_pad2d
channel_shuffle pixel_shuffle pixel_unshuffle
relu max_pool1d max_pool2d max_pool3d amax maximum minimum
"""
EXACT = frozenset(_EXACT.split())
"""Operators that pick or order numbers, without rounding: of low ends they make low ones, of high ones high."""

FEW = 16  # units: what activations may be off by, of a result and 1; libraries give 4 at most


def _weighted(
    x: Interval, apply: Callable[..., Tensor], weight: Tensor, bias: Any, terms: int, by: Rounding
) -> Interval:
    """The interval of a layer `apply(x, weight, bias)` that is linear in each, with so many products a sum.

    Around what the centre gives lies what the radius gives under the weights' absolute values, and the slack of sums.
    """
    centre, radius = x.middle()
    share, size = by.share(terms), centre.abs() + radius
    made = apply(centre, weight, bias)
    spread = apply(radius + share * size, weight.abs(), None if bias is None else share * bias.abs())
    spread = spread + (terms + 2) * TINY
    # The spread holds `share` of all sizes added up, which tells whether float32 could overflow on the way.
    spread = torch.where(spread < share * LARGE, spread, torch.inf)
    return Interval(made - spread, made + spread)


def _constant(node: Node, *values: Any) -> None:
    if any(isinstance(value, Interval) for value in values):
        raise HarpError(
            f"intervals go through {node.op!r} (node {node.name!r}) only where its weights are fixed numbers; here "
            "they depend on the image or are computed anew in every pass"
        )


def _conv1d(node: Node, args: tuple[Any, ...], by: Rounding) -> Interval:
    return _convolved(node, args, by, conv1d)


def _conv2d(node: Node, args: tuple[Any, ...], by: Rounding) -> Interval:
    return _convolved(node, args, by, conv2d)


def _convolved(node: Node, args: tuple[Any, ...], by: Rounding, call: Callable[..., Tensor]) -> Interval:
    x, weight, bias, *window = args
    _constant(node, weight, bias)
    return _weighted(_interval(x, by), lambda x, w, b: call(x, w, b, *window), weight, bias, weight[0].numel(), by)


def _linear(node: Node, args: tuple[Any, ...], by: Rounding) -> Interval:
    x, weight, bias = args
    _constant(node, weight, bias)
    return _weighted(_interval(x, by), linear, weight, bias, weight.shape[1], by)


def _batch_norm(node: Node, args: tuple[Any, ...], by: Rounding) -> Interval:
    """scale (x - mean) + shift, however it is put together: eight operations on terms of these sizes."""
    x, gamma, beta, mean, var, _, _, eps, _ = args
    _constant(node, gamma, beta, mean, var)
    x = _interval(x, by)
    shape = (1, -1, *[1] * (x.low.ndim - 2))
    scale = (torch.rsqrt(var + eps) * (1.0 if gamma is None else gamma)).view(shape)
    mean, shift = mean.view(shape), torch.zeros_like(mean).view(shape) if beta is None else beta.view(shape)
    centre, radius = x.middle()
    made = scale * (centre - mean) + shift
    size = scale.abs() * (centre.abs() + radius + mean.abs()) + shift.abs()
    spread = scale.abs() * radius + by.slack(size, 8)
    return Interval(made - spread, made + spread)


def _averaged(x: Interval, apply: Callable[[Tensor], Tensor], terms: int, by: Rounding) -> Interval:
    """The interval of weighted means whose weights are not below 0."""
    low, high = apply(x.low), apply(x.high)
    off = by.slack(apply(torch.maximum(x.low.abs(), x.high.abs())), terms)
    return Interval(low - off, high + off)


def _avg_pool2d(node: Node, args: tuple[Any, ...], by: Rounding) -> Interval:
    x, kernel, *rest = args
    divisor = rest[-1]
    if divisor is not None and divisor < 0:
        raise HarpError(f"intervals go through {node.op!r} (node {node.name!r}) only with a divisor above 0")
    return _averaged(_interval(x, by), lambda x: avg_pool2d(x, kernel, *rest), math.prod(kernel), by)


def _adaptive_avg_pool2d(node: Node, args: tuple[Any, ...], by: Rounding) -> Interval:
    x = _interval(args[0], by)
    return _averaged(x, lambda x: adaptive_avg_pool2d(x, args[1]), x.low[0, 0].numel(), by)


def _mean(node: Node, args: tuple[Any, ...], by: Rounding) -> Interval:
    x, dims, keep, kind = args
    if kind not in (None, "float32"):
        raise HarpError(f"intervals go through {node.op!r} (node {node.name!r}) only in float32, not {kind}")
    x = _interval(x, by)
    terms = math.prod(x.low.shape[dim] for dim in dims) if dims else x.low[0].numel()
    return _averaged(x, lambda x: x.mean(dims, keep), terms, by)


def _interval(value: Any, by: Rounding) -> Interval:
    """The value as an interval; a number of Python is rounded by whoever computes in float32."""
    if isinstance(value, Interval):
        return value
    if isinstance(value, Tensor):
        return Interval(value.double(), value.double())
    number = torch.tensor(float(value), dtype=torch.float64, device="cpu")
    off = (by.unit + OWN) * number.abs()
    return Interval(number - off, number + off)


def _padded(node: Node, args: tuple[Any, ...], by: Rounding) -> Interval:
    x, sizes, value = args
    ends = zip(_interval(x, by), _interval(value, by), strict=True)
    return Interval(*(pad(end, sizes, value=float(number)) for end, number in ends))


def _negated(x: Interval) -> Interval:
    return Interval(-x.high, -x.low)


def _product(a: Interval, b: Interval, by: Rounding, operations: int = 1) -> Interval:
    ends = torch.stack([x * y for x in a for y in b])
    return by.widened(ends.amin(0), ends.amax(0), operations)


def _sum(a: Interval, b: Interval, alpha: Any, by: Rounding) -> Interval:
    if alpha != 1:
        b = _product(b, _interval(alpha, by), by)
    return by.widened(a.low + b.low, a.high + b.high, 1)


def _added(node: Node, args: tuple[Any, ...], by: Rounding) -> Interval:
    a, b, alpha = args
    return _sum(_interval(a, by), _interval(b, by), alpha, by)


def _subtracted(node: Node, args: tuple[Any, ...], by: Rounding) -> Interval:
    a, b, alpha = args
    return _sum(_interval(a, by), _negated(_interval(b, by)), alpha, by)


def _subtracted_from(node: Node, args: tuple[Any, ...], by: Rounding) -> Interval:
    a, b, alpha = args
    return _sum(_interval(b, by), _negated(_interval(a, by)), alpha, by)


def _multiplied(node: Node, args: tuple[Any, ...], by: Rounding) -> Interval:
    return _product(_interval(args[0], by), _interval(args[1], by), by)


def _divided(node: Node, args: tuple[Any, ...], by: Rounding) -> Interval:
    """By what does not reach 0; else nothing is known of the result."""
    a, b = (_interval(value, by) for value in args)
    reaches = (b.low <= 0) & (b.high >= 0)
    low, high = (torch.where(reaches, end, 1 / other) for end, other in ((-torch.inf, b.high), (torch.inf, b.low)))
    return _product(a, Interval(low, high), by, 3)


def _neg(node: Node, args: tuple[Any, ...], by: Rounding) -> Interval:
    return _negated(_interval(args[0], by))


def _rising(call: Callable[..., Tensor]) -> Rule:
    """The rule of a function that never falls, right to `FEW` units."""

    def rule(node: Node, args: tuple[Any, ...], by: Rounding) -> Interval:
        x = _interval(args[0], by)
        return by.widened(call(x.low, *args[1:]), call(x.high, *args[1:]), FEW, 1.0)

    return rule


def _leaky_relu(node: Node, args: tuple[Any, ...], by: Rounding) -> Interval:
    if not 0 <= args[1] <= 1:
        raise HarpError(f"intervals go through {node.op!r} (node {node.name!r}) only with a slope from 0 to 1")
    x = _interval(args[0], by)
    low, high = (torch.nn.functional.leaky_relu(end, args[1]) for end in x)
    return by.widened(low, high, 3)


def _bounded(call: Callable[..., Tensor]) -> Rule:
    """The rule of a function that cuts numbers off at others, which are rounded once."""

    def rule(node: Node, args: tuple[Any, ...], by: Rounding) -> Interval:
        x = _interval(args[0], by)
        return by.widened(call(x.low, *args[1:]), call(x.high, *args[1:]), 1)

    return rule


def _valley(call: Callable[[Tensor], Tensor], at: float, least: float) -> Rule:
    """The rule of a function that falls up to `at`, where it is `least`, and rises from there."""

    def rule(node: Node, args: tuple[Any, ...], by: Rounding) -> Interval:
        x = _interval(args[0], by)
        low, high = call(x.low), call(x.high)
        # So near the bottom `least` is never more than the truth, whatever the last bits of `at`.
        inside = (x.low < at + 1e-2) & (x.high > at - 1e-2)
        return by.widened(torch.where(inside, least, torch.minimum(low, high)), torch.maximum(low, high), FEW, 1.0)

    return rule


RULES: dict[str, Rule] = {
    "conv1d": _conv1d,
    "conv2d": _conv2d,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "avg_pool2d": _avg_pool2d,
    "adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "mean.dim": _mean,
    **dict.fromkeys(("add.Tensor", "add.Scalar"), _added),
    **dict.fromkeys(("sub.Tensor", "sub.Scalar"), _subtracted),
    **dict.fromkeys(("rsub.Tensor", "rsub.Scalar"), _subtracted_from),
    **dict.fromkeys(("mul.Tensor", "mul.Scalar"), _multiplied),
    **dict.fromkeys(("div.Tensor", "div.Scalar"), _divided),
    "constant_pad_nd": _padded,
    "neg": _neg,
    "leaky_relu": _leaky_relu,
    "relu6": _bounded(torch.nn.functional.relu6),
    "hardtanh": _bounded(torch.nn.functional.hardtanh),
    "clamp": _bounded(torch.clamp),
    "clamp_min": _bounded(torch.clamp),
    "sigmoid": _rising(torch.sigmoid),
    "tanh": _rising(torch.tanh),
    "hardsigmoid": _rising(torch.nn.functional.hardsigmoid),
    "silu": _valley(torch.nn.functional.silu, -1.2784645427610738, -0.27846454276107385),
    "hardswish": _valley(torch.nn.functional.hardswish, -1.5, -0.375),
}
