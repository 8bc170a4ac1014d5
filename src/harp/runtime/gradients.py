"""A pruned graph with gradients, its sparse convolutions as sparse matrices: the engine in C++ only goes forward."""

import math
import warnings
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from harp.graph import Graph, Interpreter, shapes
from harp.graph.interpret import Step

# Above this share of numbers left PyTorch's dense convolution is as quick: on one core with AVX2 it makes some 25
# thousand million operations a second of all there are, a sparse product some 8 of those that are left.
FEW = 0.25
MOST = 2**25  # entries of all matrices in one direction: with both directions 0.8 GB, and for a while thrice as much
WIDTH = 64  # images side by side in one product: of more, a large layer's columns leave the second-level cache


class Differentiable(Interpreter):
    """A float32 graph on the CPU as a function from images [n, *shape] to logits [n, classes], to be differentiated.

    Convolutions with few numbers left are products with a sparse matrix, in both directions, the first ones of a large
    network until their matrices fill the memory that is meant for them; all else is PyTorch's own, operator by
    operator. Only the images get a gradient. Logits are off by the rounding of another order of sums.
    """

    def __init__(self, graph: Graph):
        super().__init__(graph)
        self._sizes, self._entries = shapes(graph), 0
        self._steps = tuple(map(self._sparse, self._steps))

    def __call__(self, x: Tensor) -> Tensor:
        if self.graph.batch is not None or len(x) <= WIDTH:
            return super().__call__(x)
        return torch.cat([super(Differentiable, self).__call__(part) for part in torch.split(x, WIDTH)])

    def _sparse(self, step: Step) -> Step:
        """The step, a sparse convolution as a product."""
        if step.call is not torch.ops.aten.conv2d.default:
            return step
        x, weight, bias, stride, padding, dilation, groups = step.args
        filters, added = (None if ref is None else self._tensors.get(ref.name) for ref in (weight, bias))
        if filters is None or (bias is not None and added is None):  # computed by the graph itself
            return step
        left = int(filters.count_nonzero())
        entries = left * math.prod(self._sizes[step.name][-2:])
        if groups != 1 or left > FEW * filters.numel() or self._entries + entries > MOST:
            return step
        self._entries += entries
        return replace(step, call=_Convolution(filters, added, stride, padding, dilation), args=(x,))


class _Convolution:
    """A convolution as a matrix from pixels to pixels, made for the first image's size, and times many images at once.

    Values lie with their images last in memory, [c, h, w, n] seen as [n, c, h, w], as what is elementwise leaves them.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any):
        self.weight, self.bias = weight, bias
        self.window = {"stride": stride, "padding": padding, "dilation": dilation}
        self._made: tuple[torch.Size, torch.Size, Tensor, Tensor, Tensor] | None = None

    def __call__(self, x: Tensor) -> Tensor:
        if self._made is None or self._made[0] != x.shape[1:]:
            self._made = (x.shape[1:], *self._matrices(x.shape[1:]))
        _, size, *matrices = self._made
        columns = x.permute(1, 2, 3, 0).reshape(-1, len(x))
        made: Tensor = _Product.apply(columns, *matrices)  # type: ignore[no-untyped-call]
        return made.view(*size, len(x)).permute(3, 0, 1, 2)

    def _matrices(self, size: torch.Size) -> tuple[torch.Size, Tensor, Tensor, Tensor]:
        """For images [c, h', w']: the output's size [o, h, w], a matrix [ohw, ch'w'], its transpose, the bias [ohw, 1].

        The matrices are compressed by rows.
        """
        channels, height, width = size
        filters = self.weight.flatten(1)
        # Each pixel's place, counted from 1, so that 0 is what padding put there; float64 holds them exactly.
        places = torch.arange(1, channels * height * width + 1, dtype=torch.float64).view(1, channels, height, width)
        read = functional.unfold(places, self.weight.shape[2:], **self.window)[0].long() - 1
        rows, entries = filters.nonzero().unbind(1)
        outputs = rows[:, None] * read.shape[1] + torch.arange(read.shape[1])
        inputs = read[entries]
        values = filters[rows, entries][:, None].expand_as(inputs)
        inside = inputs >= 0
        at, value = torch.stack([outputs[inside], inputs[inside]]), values[inside]
        shape = (len(filters) * read.shape[1], channels * height * width)
        made = functional.conv2d(torch.empty(1, *size, device="meta"), self.weight.to("meta"), **self.window)
        bias = filters.new_zeros(len(filters)) if self.bias is None else self.bias
        column = bias.repeat_interleave(read.shape[1])[:, None]
        return made.shape[1:], _compressed(at, value, shape), _compressed(at.flip(0), value, shape[::-1]), column


class _Product(torch.autograd.Function):
    """A matrix times columns, plus a bias; the gradient of the columns is its transpose times theirs."""

    @staticmethod
    def forward(ctx: Any, columns: Tensor, forth: Tensor, back: Tensor, bias: Tensor) -> Tensor:
        ctx.back = back
        return torch.addmm(bias, forth, columns.contiguous())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        return ctx.back @ grads[0].contiguous(), None, None, None


def _compressed(at: Tensor, values: Tensor, shape: tuple[int, ...]) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch calls its own format a trial version
        rows = torch.sparse_coo_tensor(at, values, shape, check_invariants=False).coalesce().to_sparse_csr()
        return torch.sparse_csr_tensor(rows.crow_indices().int(), rows.col_indices().int(), rows.values(), rows.shape)
