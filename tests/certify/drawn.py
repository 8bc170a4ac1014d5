"""Random small networks as graphs: layers, norms, activations, pools, sums and branches in any order."""

import random

import torch

from harp.graph import Graph, Node, Ref

ACTS = {
    "relu": (),
    "leaky_relu": (0.1,),
    "sigmoid": (),
    "tanh": (),
    "silu": (),
    "hardswish": (),
    "relu6": (),
    "hardtanh": (-0.3, 0.7),
    "clamp": (-0.1, 0.9),
    "hardsigmoid": (),
}


class Drawn:
    """Draws a graph node by node; `channels` and `side` are those of what was made last."""

    def __init__(self, seed, dtype=torch.float32):
        self.chance, self.noise = random.Random(seed), torch.Generator().manual_seed(seed)
        self.dtype, self.nodes, self.tensors, self.last = dtype, [], {}, "x"
        self.channels, self.side = self.chance.choice((1, 2, 3)), self.chance.choice((3, 4, 5))
        self.shape = (self.channels, self.side, self.side)

    def tensor(self, *shape, positive=False):
        made = (
            torch.randn(shape, generator=self.noise, dtype=torch.float64) / max(1, torch.Size(shape[1:]).numel()) ** 0.5
        )
        name = f"t{len(self.tensors)}"
        self.tensors[name] = (made.abs() + 0.1 if positive else made).to(self.dtype)
        return Ref(name)

    def node(self, op, *args):
        self.last = f"n{len(self.nodes)}"
        self.nodes.append(Node(self.last, op, args))
        return Ref(self.last)

    def convolve(self, x, channels):
        kernel = self.chance.choice((1, 3))
        made = self.node(
            "conv2d",
            x,
            self.tensor(channels, self.channels, kernel, kernel),
            self.tensor(channels),
            (1, 1),
            (kernel // 2, kernel // 2),
            (1, 1),
            1,
        )
        self.channels = channels
        return made

    def norm(self, x):
        count = self.channels
        parts = [self.tensor(count), self.tensor(count), self.tensor(count), self.tensor(count, positive=True)]
        return self.node("batch_norm", x, *parts, False, 0.1, 1e-5, False)

    def act(self, x):
        op = self.chance.choice((*ACTS, "relu", "relu", "relu"))
        return self.node(op, x, *ACTS[op])

    def block(self, x):
        kind = self.chance.choice(("plain", "plain", "residual", "branches", "pool", "mean", "scale"))
        if kind == "residual":
            other = self.convolve(self.act(self.norm(self.convolve(x, self.channels))), self.channels)
            return self.node(self.chance.choice(("add.Tensor", "sub.Tensor")), x, other, 1)
        if kind == "branches":
            before = self.channels
            left = self.convolve(x, 2)
            self.channels = before
            right = self.convolve(x, 2)
            self.channels = 4
            return self.node("cat", (left, right), 1)
        if kind == "pool" and self.side > 2:
            self.side //= 2
            if self.chance.random() < 0.5:
                return self.node("max_pool2d", x, (2, 2), (2, 2), (0, 0), (1, 1), False)
            return self.node("avg_pool2d", x, (2, 2), (2, 2), (0, 0), False, True, None)
        if kind == "scale":
            gate = self.node("sigmoid", self.node("adaptive_avg_pool2d", x, (1, 1)))
            return self.node("mul.Tensor", self.node("mul.Scalar", x, 0.7), gate)
        if kind == "mean":
            return self.node("sub.Tensor", x, self.node("mean.dim", x, (2, 3), True, None), 1)
        return self.act(self.norm(self.convolve(x, self.chance.choice((2, 3, 5)))))

    def graph(self, classes=4):
        x = self.node(
            "div.Tensor",
            self.node("sub.Tensor", Ref("x"), self.tensor(self.channels, 1, 1), 1),
            self.tensor(self.channels, 1, 1, positive=True),
        )
        for _ in range(self.chance.choice((1, 2, 3, 4))):
            x = self.block(x)
        x, features = self.node("flatten.using_ints", x, 1, -1), self.channels * self.side**2
        if self.chance.random() < 0.5:
            x, features = self.act(self.node("linear", x, self.tensor(6, features), self.tensor(6))), 6
        self.node("linear", x, self.tensor(classes, features), self.tensor(classes))
        return Graph("x", self.shape, tuple(self.nodes), self.last, self.tensors)
