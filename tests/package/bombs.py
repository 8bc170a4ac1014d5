"""Small files that ask for much: graphs of one kind each, in sizes drawn by chance."""

import math
from collections.abc import Callable
from random import Random

import torch

from harp.graph import Graph, Node, Ref, Sparse

Maker = Callable[[Random], Graph]


def few(*shape: int, count: int = 4) -> Sparse:
    """A tensor of which almost nothing is stored."""
    index = torch.linspace(0, math.prod(shape) - 1, count, dtype=torch.float64).long().unique()
    return Sparse(shape, index, torch.full((len(index),), 0.25))


def conv(name: str, x: str, *how: int) -> Node:
    stride, padding, dilation, groups = how
    pairs = ((stride, stride), (padding, padding), (dilation, dilation))
    return Node(name, "conv2d", (Ref(x), Ref("w"), None, *pairs, groups))


def ended(shape: tuple[int, ...], nodes: list[Node], weight: Sparse, batch: int | None = None) -> Graph:
    last = Node("y", "mean.dim", (Ref(nodes[-1].name), (2, 3), False, None))
    return Graph("x", shape, (*nodes, last), "y", {"w": weight}, batch)


def window(chance: Random) -> Graph:
    """One convolution, any of its numbers large."""
    size, channels = chance.choice([1, 3, 16, 64, 257, 1024, 2**14]), chance.choice([1, 3, 64, 512])
    kernel, stride = chance.choice([1, 3, 33, 65, 257]), chance.choice([1, 2, 7, 64, 257, 2**20])
    padding, dilation = chance.choice([0, 1, kernel // 2, 64, 1000, 2**31]), chance.choice([1, 2, 64, 2**40])
    nodes = [conv("c", "x", stride, padding, dilation, 1)]
    return ended((channels, size, size), nodes, few(chance.choice([1, 16, 2048]), channels, kernel, kernel))


def chain(chance: Random) -> Graph:
    """A convolution and a long chain behind it."""
    op, more = chance.choice([("relu", ()), ("softplus", (1.0, 20.0)), ("gelu", ("tanh",)), ("exp", ())])
    size, length = chance.choice([1, 8, 64, 512, 1024]), chance.choice([50, 1000, 20_000])
    nodes = [conv("r0", "x", 1, 0, 1, 1)]
    nodes += [Node(f"r{i + 1}", op, (Ref(f"r{i}"), *more)) for i in range(length)]
    return ended((1, size, size), nodes, few(chance.choice([1, 64]), 1, 1, 1))


def layers(chance: Random) -> Graph:
    """Many convolutions, all alike."""
    channels, size = chance.choice([1, 8, 256]), chance.choice([2, 9, 32, 500])
    length = chance.choice([20, 200, 9000])
    nodes = [conv(f"r{i}", f"r{i - 1}" if i else "x", 1, 1, 1, 1) for i in range(length)]
    return ended((channels, size, size), nodes, few(channels, channels, 3, 3))


def held(chance: Random) -> Graph:
    """Many values that are needed at the end."""
    size, count = chance.choice([8, 64, 512]), chance.choice([10, 100, 2000])
    nodes = [conv(f"r{i}", "x", 1, 1, 1, 1) for i in range(count)]
    nodes.append(Node("s", "cat", (tuple(Ref(node.name) for node in nodes), 1)))
    return ended((1, size, size), nodes, few(chance.choice([1, 64]), 1, 3, 3))


def grown(chance: Random) -> Graph:
    """A value made larger without weights."""
    factor = chance.choice([2, 64, 2**12, 2**31, 2**62])
    node = chance.choice(
        [
            Node("g", "repeat", (Ref("x"), (1, 1, factor, factor))),
            Node("g", "adaptive_avg_pool2d", (Ref("x"), (factor, 1))),
            Node("g", "constant_pad_nd", (Ref("x"), (factor, factor), 0)),
            Node("g", "upsample_nearest2d", (Ref("x"), (factor, factor), None, None)),
            Node("g", "_upsample_bilinear2d_aa", (Ref("x"), (8, 8), False, 1 / factor, None)),
            Node("g", "avg_pool2d", (Ref("x"), (factor, factor), (1, 1), (factor // 2, 1), True, True, None)),
        ]
    )
    return ended((3, 8, 8), [node], few(1, 1), chance.choice([None, 1, 1000, 2**20]))


def parts(chance: Random) -> Graph:
    """Values split over and over."""
    count = chance.choice([10, 1000])
    nodes = [Node(f"p{i}", "unbind.int", (Ref("x"), 1)) for i in range(count)]
    nodes += [Node("a", "getitem", (Ref(f"p{count - 1}"), 0)), Node("y", "flatten.using_ints", (Ref("a"), 1, -1))]
    return Graph("x", (chance.choice([3, 3000, 2**20]), 1, 1), tuple(nodes), "y", {"w": few(1, 1)})


BOMBS: tuple[Maker, ...] = (window, chain, layers, held, grown, parts)
