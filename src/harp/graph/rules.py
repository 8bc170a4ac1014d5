"""Shapes of the commonest operators by rule.

PyTorch knows them all, on tensors of the `meta` device; but the first such question loads PyTorch's decompositions,
which takes seconds, and a packed network should be ready in milliseconds, also where there is no PyTorch. A rule
answers only where everything is as usual; what it leaves open, and every error, is PyTorch's to tell.
"""

import math
import operator as python
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from harp.graph.ir import FLOATS, dtype_name, stored

Shape = tuple[int, ...]
LARGEST = 2**48  # elements; beyond them PyTorch cannot say how many bytes
_SAMES = """
relu relu6 hardtanh leaky_relu elu selu celu silu gelu sigmoid hardsigmoid hardswish tanh softplus mish hardshrink
softshrink log_sigmoid neg abs sign square sqrt rsqrt reciprocal exp expm1 log log1p sin cos erf floor ceil round trunc
clamp_min clone add.Scalar mul.Scalar sub.Scalar rsub.Scalar div.Scalar
"""
_SAME = frozenset(_SAMES.split())


@dataclass(frozen=True, slots=True)
class Blank:
    """A tensor that has a shape, a dtype by its name in PyTorch, and no numbers."""

    shape: Shape
    dtype: str

    @staticmethod
    def of(tensor: Any) -> "Blank":
        """A tensor or array, sparse or not, without its numbers."""
        return Blank(tuple(tensor.shape), dtype_name(stored(tensor)))

    @property
    def size(self) -> int:
        """How many numbers it would have."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """What these would take."""
        bits = re.search(r"\d+", self.dtype)  # none in "bool"
        return self.size * (int(bits[0]) // 8 if bits else 1)


def by_rule(op: str, args: Sequence[Any]) -> Blank | int | None:
    """What the operator makes of `args` (blanks, numbers, lists), None where no rule applies."""
    if op == "sym_size.int":
        dims = args[0].shape
        return int(dims[args[1]]) if -len(dims) <= args[1] < len(dims) else None
    if op in _WHOLE:
        return _WHOLE[op](*args) if min(args) > 0 else None
    tensors = [part for arg in args for part in (arg if isinstance(arg, list) else [arg]) if isinstance(part, Blank)]
    kinds = {tensor.dtype for tensor in tensors}
    rule = _RULES.get(op) or (_same if op in _SAME else None)
    if rule is None or len(kinds) != 1 or next(iter(kinds)) not in FLOATS:
        return None
    made = rule(*[_plain(arg) for arg in args])
    if made is None or math.prod(made) >= LARGEST:
        return None
    return Blank(made, tensors[0].dtype)


def _plain(arg: Any) -> Any:
    """A tensor as its shape, a list as a tuple of what its parts are."""
    if isinstance(arg, Blank):
        return _Dims(arg.shape)
    return tuple(_plain(part) for part in arg) if isinstance(arg, list) else arg


class _Dims(tuple[int, ...]):
    """A tensor's shape, told from a list of numbers."""


def _same(x: Any, *_: Any) -> Shape | None:
    return x if isinstance(x, _Dims) else None


def _clamp(x: Any, low: Any, high: Any) -> Shape | None:
    return None if low is None and high is None else _same(x)


def _broadcast(a: Any, b: Any, *_: Any) -> Shape | None:
    if not isinstance(a, _Dims) or not isinstance(b, _Dims):
        return a if isinstance(a, _Dims) else None
    rank = max(len(a), len(b))
    pairs = list(zip((1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b, strict=True))
    return tuple(y if x == 1 else x for x, y in pairs) if all(x == y or 1 in (x, y) for x, y in pairs) else None


def _sides(size: Shape, *window: Any, ceil: bool = False) -> Shape | None:
    """Height and width after a window's kernel, stride, padding and dilation, each a pair."""
    made = []
    for n, k, s, p, d in zip(size, *window, strict=True):
        reach = n + 2 * p - d * (k - 1) - 1
        if k < 1 or s < 1 or p < 0 or d < 1 or reach < 0:
            return None
        # With ceil_mode a window that begins beyond the image and its padding is left out.
        count = reach // s + 1
        made.append(count + (ceil and reach % s > 0 and count * s < n + p))
    return tuple(made)


def _conv2d(x: Shape, w: Shape, b: Shape | None, stride: Any, padding: Any, dilation: Any, groups: int) -> Shape | None:
    pairs = [part * 2 if len(part) == 1 else part for part in (stride, padding, dilation)]
    if len(x) != 4 or len(w) != 4 or any(len(part) != 2 for part in pairs) or groups < 1:
        return None
    if x[1] != w[1] * groups or w[0] % groups or w[0] < 1 or (b is not None and b != (w[0],)):
        return None
    sides = _sides(x[2:], w[2:], *pairs)
    return None if sides is None else (x[0], w[0], *sides)


def _linear(x: Shape, w: Shape, b: Shape | None) -> Shape | None:
    fits = len(x) >= 2 and len(w) == 2 and x[-1] == w[1] and (b is None or b == (w[0],))
    return (*x[:-1], w[0]) if fits else None


def _batch_norm(x: Shape, *rest: Any) -> Shape | None:
    fits = len(x) >= 2 and all(part is None or part == (x[1],) for part in rest[:4]) and rest[4] is False
    return x if fits and None not in rest[2:4] else None


def _max_pool2d(x: Shape, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: bool) -> Shape | None:
    return _pooled(x, kernel, stride, padding, dilation, ceil)


def _avg_pool2d(x: Shape, kernel: Any, stride: Any, padding: Any, ceil: bool, *_: Any) -> Shape | None:
    return _pooled(x, kernel, stride, padding, (1, 1), ceil)


def _pooled(x: Shape, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: bool) -> Shape | None:
    pairs = [part * 2 if len(part) == 1 else part for part in (kernel, stride or kernel, padding, dilation)]
    if len(x) != 4 or any(len(part) != 2 for part in pairs):
        return None
    if any(2 * p > k for k, p in zip(pairs[0], pairs[2], strict=True)):
        return None
    sides = _sides(x[2:], *pairs, ceil=ceil)
    return None if sides is None else (*x[:2], *sides)


def _adaptive_avg_pool2d(x: Shape, size: Any) -> Shape | None:
    return (*x[:2], *size) if len(x) == 4 and len(size) == 2 and min(size) > 0 else None


def _mean(x: Shape, dims: Any, keep: bool, kind: Any) -> Shape | None:
    if not dims or kind is not None or any(not -len(x) <= dim < len(x) for dim in dims):
        return None
    gone = {dim % len(x) for dim in dims}
    if len(gone) != len(dims):
        return None
    return tuple(1 if place in gone else n for place, n in enumerate(x) if keep or place not in gone)


def _flatten(x: Shape, start: int, end: int) -> Shape | None:
    if not x or not -len(x) <= start < len(x) or not -len(x) <= end < len(x):
        return None
    start, end = start % len(x), end % len(x)
    return (*x[:start], math.prod(x[start : end + 1]), *x[end + 1 :]) if start <= end else None


def _view(x: Shape, size: Any) -> Shape | None:
    if sum(n == -1 for n in size) == 1:
        rest = math.prod(n for n in size if n != -1)
        size = tuple(math.prod(x) // rest if n == -1 else n for n in size) if rest > 0 else size
    return tuple(size) if min(size, default=0) > 0 and math.prod(size) == math.prod(x) else None


def _cat(parts: Any, dim: int) -> Shape | None:
    first = parts[0]
    if not -len(first) <= dim < len(first) or any(len(part) != len(first) for part in parts):
        return None
    dim %= len(first)
    if any(part[:dim] + part[dim + 1 :] != first[:dim] + first[dim + 1 :] for part in parts):
        return None
    return (*first[:dim], sum(part[dim] for part in parts), *first[dim + 1 :])


# Sizes computed from sizes, which are above 0; where they are not it is PyTorch's to tell.
_WHOLE: dict[str, Callable[..., int]] = {
    "int_add": python.add,
    "int_mul": python.mul,
    "int_floordiv": python.floordiv,
    "int_mod": python.mod,
}
_RULES: dict[str, Callable[..., Shape | None]] = {
    "clamp": _clamp,
    **dict.fromkeys(("add.Tensor", "sub.Tensor", "mul.Tensor", "div.Tensor"), _broadcast),
    "conv2d": _conv2d,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "max_pool2d": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "mean.dim": _mean,
    "flatten.using_ints": _flatten,
    "view": _view,
    "reshape": _view,
    "cat": _cat,
}
