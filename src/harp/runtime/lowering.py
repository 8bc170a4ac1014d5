"""Nodes of a graph as layers of the engine, where the engine knows them."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from harp.graph import Array, ArrayGraph, Node, Ref, SparseArray, Unknown, dtype_name, stored
from harp.runtime.acts import ACTS
from harp.runtime.arithmetic import ARITHMETIC, scale_and_shift
from harp.runtime.layers import Kind, Layer, Window
from harp.runtime.values import Spec, led_by_images
from harp.runtime.windows import near, pair

# A layer, and the form in which it takes and makes each value; None where the engine knows none.
Lowered = tuple[Layer, dict[str, str]] | None

# Operators that change no number, only how the dense tensor is described.
PLAIN = {"clone", "alias", "contiguous", "detach"}


class Lowering:
    """Answers, node by node, which layer of the engine does the same; None where there is none.

    `unknown` tells shapes that no rule does (None: PyTorch); the engine is `alone` where there is no PyTorch that could
    run what it is slower at.
    """

    def __init__(self, graph: ArrayGraph, unknown: Unknown | None = None, alone: bool = False):
        self.graph, self.alone = graph, alone
        self.batch, self.shapes = led_by_images(graph, unknown)
        self.constants: dict[str, Array | SparseArray] = dict(graph.tensors)

    def spec(self, name: str, form: str | None = None) -> Spec | None:
        """The value as the engine would hold it, in the form asked for, else in that its rank suggests."""
        shape = self.shapes.get(name)
        if not shape or 0 in shape or name in self.graph.tensors:
            return None
        form = form or {4: "map", 2: "vector"}.get(len(shape), "tokens")
        if form == "tokens":
            rows = math.prod(shape[:-1])
            return Spec(form, (shape[-1], 1, rows // self.batch)) if rows % self.batch == 0 else None
        if shape[0] != self.batch or len(shape) != {"map": 4, "vector": 2}[form]:
            return None
        return Spec(form, (shape[1], *shape[2:]) if form == "map" else (shape[1], 1, 1))  # type: ignore[arg-type]

    def lower(self, node: Node, forms: Mapping[str, str]) -> Lowered:
        """The layer, and the form in which it takes and makes each value; `forms` holds those that are settled."""
        if any(name not in self.shapes for name in (node.name, *node.refs())):
            return None  # a number, a tensor of another kind, or one that does not lie image by image
        if node.op in ACTS or node.op in ARITHMETIC:
            known = [forms[name] for name in node.refs() if name in forms]
            return self._pointwise(node, known[0] if known else None)
        makers = {
            "conv2d": self._conv2d,
            "linear": self._linear,
            "batch_norm": self._batch_norm,
            "max_pool2d": self._max_pool2d,
            "avg_pool2d": self._avg_pool2d,
            "adaptive_avg_pool2d": self._adaptive_avg_pool2d,
            "mean.dim": self._mean,
            "cat": self._cat,
        }
        return makers[node.op](node) if node.op in makers else None

    def _made(self, kind: Kind, node: Node, inputs: tuple[str, ...], form: str, **fields: Any) -> Lowered:
        specs = {name: self.spec(name, form) for name in inputs}
        out = self.spec(node.name, fields.pop("out", form))
        if out is None or None in specs.values():
            return None
        layer = Layer(kind, node.name, inputs, out.shape, **fields)
        return layer, {**dict.fromkeys(inputs, form), node.name: out.form}

    def _single(self, name: str) -> bool:
        return dtype_name(stored(self.graph.tensors[name])) == "float32"

    def _weighted(self, name: Any) -> bool:
        return isinstance(name, Ref) and name.name in self.graph.tensors and self._single(name.name)

    def _biased(self, bias: Any, weight: str) -> bool:
        filters = tuple(self.graph.tensors[weight].shape)[:1]
        return bias is None or (self._weighted(bias) and tuple(self.graph.tensors[bias.name].shape) == filters)

    def _conv2d(self, node: Node) -> Lowered:
        x, weight, bias, stride, padding, dilation, groups = node.args
        if not self._weighted(weight) or not self._biased(bias, weight.name):
            return None
        kernel = tuple(self.graph.tensors[weight.name].shape)[2:]
        window = Window(*(pair(v) for v in (kernel, stride, padding, dilation)))
        given = self.spec(x.name, "map")
        if given is None or window.stride[0] != window.stride[1] or not near(window, given.shape):
            return None
        names = {"weight": weight.name, "bias": bias.name if bias else ""}
        return self._made("conv", node, (x.name,), "map", window=window, groups=groups, **names)

    def _linear(self, node: Node) -> Lowered:
        x, weight, bias = node.args
        if not self._weighted(weight) or not self._biased(bias, weight.name):
            return None
        form = "vector" if len(self.shapes[x.name]) == 2 else "tokens"
        names = {"weight": weight.name, "bias": bias.name if bias else ""}
        return self._made("linear" if form == "vector" else "conv", node, (x.name,), form, **names)

    def _batch_norm(self, node: Node) -> Lowered:
        x, gamma, beta, mean, var, _, _, eps, _ = node.args
        if len(self.shapes[x.name]) != 4 or not all(t is None or self._weighted(t) for t in node.args[1:5]):
            return None
        with np.errstate(all="ignore"):  # what is not finite is left to PyTorch
            scale = 1 / np.sqrt(self._double(var.name) + eps)
            scale = scale * self._double(gamma.name) if gamma else scale
            shift = -self._double(mean.name) * scale
            shift = shift + self._double(beta.name) if beta else shift
        return self._affine(node, x.name, scale, shift, "map")

    def _double(self, name: str) -> Array:
        return self.graph.tensor(name).astype(np.float64)

    def _affine(self, node: Node, x: str, scale: Array, shift: Array, form: str) -> Lowered:
        """Every channel times a number plus a number, as a convolution of one weight per channel."""
        made = self._made("conv", node, (x,), form)
        # PyTorch divides by a 0, and by what is so small that 1 over it overflows; the product would be NaN at 0.
        with np.errstate(all="ignore"):
            scale, shift = scale.astype(np.float32), shift.astype(np.float32)
        if made is None or not (np.isfinite(scale).all() and np.isfinite(shift).all()):
            return None
        channels = made[0].shape[0]
        self.constants[f"{node.name}#scale"] = np.broadcast_to(scale, channels).reshape(-1, 1, 1, 1)
        self.constants[f"{node.name}#shift"] = np.broadcast_to(shift, channels)
        layer = replace(made[0], groups=channels, weight=f"{node.name}#scale", bias=f"{node.name}#shift")
        return layer, made[1]

    def _pointwise(self, node: Node, form: str | None) -> Lowered:
        refs = [a for a in node.args if isinstance(a, Ref)]
        specs = [self.spec(ref.name, form) for ref in refs]
        if node.op in ACTS:
            act = ACTS[node.op](node.args)
            return self._made("activate", node, (refs[0].name,), specs[0].form, act=act) if specs[0] and act else None
        values = [spec for spec in specs if spec is not None]
        if len(values) == 2 and len(refs) == 2:
            return self._two(node, refs, values)
        return self._with_constant(node, values[0].form) if len(values) == 1 else None

    def _two(self, node: Node, refs: list[Ref], specs: list[Spec]) -> Lowered:
        names = tuple(ref.name for ref in refs)
        first, second = specs
        if first.form != second.form:
            return None
        if node.op == "add.Tensor" and first == second and node.args[2] == 1 and names[0] != names[1]:
            return self._made("add", node, names, first.form)
        alike = first.form == "map" and first.shape[0] == second.shape[0] and names[0] != names[1]
        if node.op == "mul.Tensor" and alike:
            for a, b, spec in ((0, 1, second), (1, 0, first)):
                if spec.shape[1:] == (1, 1):
                    return self._made("scale", node, (names[a], names[b]), "map")
        return None

    def _with_constant(self, node: Node, form: str) -> Lowered:
        """x op c or c op x where c has one number for all or one for each channel."""
        x, c = node.args[:2]
        swapped = isinstance(x, Ref) and x.name in self.graph.tensors
        x, c = (c, x) if swapped else (x, c)
        out = self.shapes[node.name]
        constant = self._constant(c, len(out), form)
        if out != self.shapes[x.name] or constant is None:
            return None
        pair_of = scale_and_shift(node.op, constant, node.args[2] if len(node.args) > 2 else 1, first=swapped)
        return self._affine(node, x.name, *pair_of, form) if pair_of else None

    def _constant(self, c: Any, rank: int, form: str) -> Array | None:
        if isinstance(c, int | float) and not isinstance(c, bool):
            return np.array([float(c)])
        if not self._weighted(c):
            return None
        tensor = self._double(c.name)
        shape = (1,) * (rank - tensor.ndim) + tuple(tensor.shape)
        axis = 1 if form in ("map", "vector") else rank - 1
        return tensor.reshape(-1) if len(shape) == rank and tensor.size == shape[axis] else None

    def _max_pool2d(self, node: Node) -> Lowered:
        x, kernel, stride, padding, dilation, _ = node.args
        window = Window(pair(kernel), pair(stride or kernel), pair(padding), pair(dilation))
        return self._pool(node, x.name, window)

    def _pool(self, node: Node, x: str, window: Window, **fields: Any) -> Lowered:
        """A window larger than any image, which a file may ask for, is PyTorch's: the engine counts in 32 bits."""
        sizes = (*window.kernel, *window.stride, *window.dilation)
        if max(sizes) >= 1 << 15 or min(sizes) < 1 or min(window.padding) < 0:
            return None
        return self._made("pool", node, (x,), "map", window=window, **fields)

    def _avg_pool2d(self, node: Node) -> Lowered:
        x, kernel, stride, padding, _, count_pad, divisor = node.args
        window = Window(pair(kernel), pair(stride or kernel), pair(padding))
        if divisor is not None:
            return None
        return self._pool(node, x.name, window, average=True, count_pad=count_pad)

    def _adaptive_avg_pool2d(self, node: Node) -> Lowered:
        x = node.args[0]
        given, wanted = self.spec(x.name, "map"), self.spec(node.name, "map")
        if given is None or wanted is None:
            return None
        if wanted.shape[1:] == (1, 1):
            return self._made("mean", node, (x.name,), "map")
        if any(a % b for a, b in zip(given.shape[1:], wanted.shape[1:], strict=True)):
            return None
        kernel = (given.shape[1] // wanted.shape[1], given.shape[2] // wanted.shape[2])
        return self._made("pool", node, (x.name,), "map", window=Window(kernel, kernel), average=True)

    def _mean(self, node: Node) -> Lowered:
        if node.args[3] is not None or not node.args[1]:
            return None
        x, dims, keep, _ = node.args
        if {dim % 4 for dim in dims} != {2, 3} or len(self.shapes[x.name]) != 4:
            return None
        return self._made("mean", node, (x.name,), "map", out="map" if keep else "vector")

    def _cat(self, node: Node) -> Lowered:
        parts, dim = node.args
        if dim % 4 != 1 or not all(isinstance(part, Ref) for part in parts):
            return None
        return self._made("cat", node, tuple(part.name for part in parts), "map")

    def flattened(self, node: Node) -> str | None:
        """The value that this node only describes anew: [n, c, h, w] as [n, c h w], or not at all."""
        name = node.args[0].name if node.args and isinstance(node.args[0], Ref) else ""
        given, made = self.shapes.get(name), self.shapes.get(node.name)
        same = node.op == "adaptive_avg_pool2d" and given == made
        if not same and node.op not in {"flatten.using_ints", "view", "reshape", *PLAIN}:
            return None
        if given is None or made is None or name in self.graph.tensors or given[0] != made[0] != 0:
            return None
        return name if made in (given, (given[0], math.prod(given[1:]))) else None
