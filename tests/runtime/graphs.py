"""Random operator graphs: everything the engine claims to run, in every awkward size."""

from dataclasses import replace
from typing import cast

import torch
from hypothesis import strategies as st
from torch import Tensor

from harp.graph import Graph, Node, Ref, run
from harp.runtime import built, variants

BUILT = [name for name in variants() if name in built()]
FP16 = [f"{name}_fp16" for name in BUILT]
HERE = BUILT or ["torch"]  # without a compiler there is no other
NOISE = torch.Generator()  # conftest.py makes it the same for each test

ACTS = {
    "relu": (),
    "relu6": (),
    "hardtanh": (-0.5, 0.75),
    "leaky_relu": (0.1,),
    "elu": (1.0, 1.0, 1.0),
    "silu": (),
    "gelu": ("none",),
    "hardswish": (),
    "sigmoid": (),
    "hardsigmoid": (),
    "tanh": (),
}


def conv(name: str, x: str, stride: int, padding: int, dilation: int, groups: int, bias: bool) -> Node:
    pairs = ((stride, stride), (padding, padding), (dilation, dilation))
    return Node(name, "conv2d", (Ref(x), Ref(f"{name}.w"), Ref(f"{name}.b") if bias else None, *pairs, groups))


def one(weight: Tensor, shape: tuple[int, int, int], residual: bool = False, **how: int) -> Graph:
    """A convolution of that weight, and with `residual` its input added and a relu behind it, flattened."""
    how = {"stride": 1, "padding": 1, "dilation": 1, "groups": 1, **how}
    nodes = [conv("c", "x", **how, bias=False)]
    if residual:
        nodes += [Node("s", "add.Tensor", (Ref("c"), Ref("x"), 1)), Node("r", "relu", (Ref("s"),))]
    nodes.append(Node("y", "flatten.using_ints", (Ref(nodes[-1].name), 1, -1)))
    return Graph("x", shape, tuple(nodes), "y", {"c.w": weight})


class Growing:
    """A graph that grows at its end; `maps` holds the shape of every value made so far."""

    def __init__(self, shape: tuple[int, int, int], seed: int):
        self.nodes: list[Node] = []
        self.tensors: dict[str, Tensor] = {}
        self.maps: dict[str, tuple[int, int, int]] = {"x": shape}
        self.noise = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.noise)

    def sparse(self, *shape: int, density: float, empty: float) -> Tensor:
        """Normal weights, `density` of them kept; a share of the filters without any."""
        kept = torch.rand(shape, generator=self.noise) < density
        alive = torch.rand(shape[0], generator=self.noise) >= empty
        weight = self.normal(*shape) * kept * alive.view(-1, *[1] * (len(shape) - 1))
        return cast(Tensor, weight / max(1.0, (weight.count_nonzero().item() / shape[0]) ** 0.5))

    def add(self, op: str, *args: object, shape: tuple[int, int, int]) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(Node(name, op, args))
        self.maps[name] = shape
        return name

    def finish(self, output: str) -> Graph:
        """The graph with the output flattened to logits."""
        self.nodes.append(Node("logits", "flatten.using_ints", (Ref(output), 1, -1)))
        graph = Graph("x", self.maps["x"], tuple(self.nodes), "logits", self.tensors)
        return graph.pruned()


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """A graph of one to six layers over maps of 1 x 1 to 37 x 37."""
    shape = (draw(st.integers(1, 9)), draw(st.integers(1, 37)), draw(st.integers(1, 37)))
    grown = Growing(shape, draw(st.integers(0, 2**31)))
    for _ in range(draw(st.integers(1, 6))):
        x = draw(st.sampled_from(list(grown.maps)[-3:]))
        kind = draw(st.sampled_from(["conv", "conv", "conv", "act", "pool", "add", "cat", "norm", "excite"]))
        {"conv": _conv, "act": _act, "pool": _pool, "add": _add, "cat": _cat, "norm": _norm, "excite": _excite}[kind](
            draw, grown, x
        )
    if draw(st.booleans()):
        return _head(draw, grown)
    return grown.finish(next(reversed(grown.maps)))


def _conv(draw: st.DrawFn, grown: Growing, x: str) -> None:
    channels, height, width = grown.maps[x]
    groups = draw(st.sampled_from([g for g in (1, 1, 2, 3, channels) if channels % g == 0]))
    kernel = draw(st.sampled_from([(1, 1), (3, 3), (3, 3), (2, 2), (5, 5), (1, 3), (7, 1)]))
    stride, padding, dilation = draw(st.integers(1, 3)), draw(st.integers(0, 3)), draw(st.integers(1, 2))
    size = [
        (n + 2 * padding - dilation * (k - 1) - 1) // stride + 1 for n, k in zip((height, width), kernel, strict=True)
    ]
    if min(size) < 1:
        return
    filters = groups * draw(st.integers(1, 9))
    density = draw(st.sampled_from([0.0, 0.02, 0.1, 0.5, 1.0]))
    weight = grown.sparse(filters, channels // groups, *kernel, density=density, empty=draw(st.sampled_from([0, 0.4])))
    name = f"v{len(grown.nodes)}"
    bias = draw(st.booleans())
    grown.tensors |= {f"{name}.w": weight} | ({f"{name}.b": grown.normal(filters)} if bias else {})
    grown.nodes.append(conv(name, x, stride, padding, dilation, groups, bias))
    grown.maps[name] = (filters, size[0], size[1])


def _act(draw: st.DrawFn, grown: Growing, x: str) -> None:
    op = draw(st.sampled_from(sorted(ACTS)))
    grown.add(op, Ref(x), *ACTS[op], shape=grown.maps[x])


def _pool(draw: st.DrawFn, grown: Growing, x: str) -> None:
    channels, height, width = grown.maps[x]
    kernel, stride = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    padding, ceil = draw(st.integers(0, kernel // 2)), draw(st.booleans())
    if min(height, width) + 2 * padding < kernel:
        return
    average = draw(st.booleans())
    square = ((kernel, kernel), (stride, stride), (padding, padding))
    args = (*square, ceil, draw(st.booleans()), None) if average else (*square, (1, 1), ceil)
    call = torch.ops.aten.avg_pool2d if average else torch.ops.aten.max_pool2d
    made = call(torch.zeros(1, channels, height, width), *args).shape
    grown.add("avg_pool2d" if average else "max_pool2d", Ref(x), *args, shape=tuple(made[1:]))


def _add(draw: st.DrawFn, grown: Growing, x: str) -> None:
    alike = [name for name, shape in grown.maps.items() if shape == grown.maps[x] and name != x]
    other = draw(st.sampled_from([*alike, 0.25]))
    if isinstance(other, str):
        grown.add("add.Tensor", Ref(x), Ref(other), 1, shape=grown.maps[x])
    else:
        op = draw(st.sampled_from(["add", "sub", "rsub", "mul", "div"]))
        grown.add(f"{op}.Scalar", Ref(x), other, *([1] if op in ("add", "sub", "rsub") else []), shape=grown.maps[x])


def _cat(draw: st.DrawFn, grown: Growing, x: str) -> None:
    alike = [name for name, shape in grown.maps.items() if shape[1:] == grown.maps[x][1:]]
    other = draw(st.sampled_from(alike))
    channels = grown.maps[x][0] + grown.maps[other][0]
    grown.add("cat", (Ref(x), Ref(other)), 1, shape=(channels, *grown.maps[x][1:]))


def _norm(draw: st.DrawFn, grown: Growing, x: str) -> None:
    channels, name = grown.maps[x][0], f"v{len(grown.nodes)}"
    parts = {"gamma": grown.normal(channels), "beta": grown.normal(channels), "mean": grown.normal(channels)}
    grown.tensors |= {
        f"{name}.{key}": value for key, value in {**parts, "var": grown.normal(channels) ** 2 + 1}.items()
    }
    refs = (Ref(f"{name}.{key}") for key in ("gamma", "beta", "mean", "var"))
    grown.add("batch_norm", Ref(x), *refs, False, 0.1, 1e-5, False, shape=grown.maps[x])


def _excite(draw: st.DrawFn, grown: Growing, x: str) -> None:
    channels = grown.maps[x][0]
    mean = grown.add("mean.dim", Ref(x), (2, 3), True, None, shape=(channels, 1, 1))
    gate = grown.add("sigmoid", Ref(mean), shape=(channels, 1, 1))
    grown.add("mul.Tensor", Ref(x), Ref(gate), shape=grown.maps[x])


def _head(draw: st.DrawFn, grown: Growing) -> Graph:
    last = next(reversed(grown.maps))
    size = torch.Size(grown.maps[last]).numel()
    grown.tensors["head.w"] = grown.sparse(10, size, density=draw(st.sampled_from([0.05, 1.0])), empty=0.1)
    grown.nodes.append(Node("flat", "flatten.using_ints", (Ref(last), 1, -1)))
    grown.nodes.append(Node("logits", "linear", (Ref("flat"), Ref("head.w"), None)))
    return Graph("x", grown.maps["x"], tuple(grown.nodes), "logits", grown.tensors).pruned()


def error(graph: Graph, made: Tensor, x: Tensor) -> tuple[float, float]:
    """Distances from what float64 gives, relative to its largest logit: of `made`, and of PyTorch in float32."""
    exact = replace(graph, tensors={name: graph.tensor(name).double() for name in graph.tensors})
    truth = run(exact, x.double())
    scale = truth.abs().max().clamp(min=1e-30)
    mine, torchs = (((found - truth).abs().max() / scale).item() for found in (made, run(graph, x)))
    return mine, torchs
