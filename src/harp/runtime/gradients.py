"""A pruned graph with gradients: its sparse convolutions run on the sparse engine, forth and back."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from harp.graph import Graph, Interpreter, Node, Ref, Sparse, shapes
from harp.graph.interpret import Step
from harp.runtime.engine import Engine
from harp.runtime.native import Native, native
from harp.runtime.windows import pair

# Above this share of numbers left PyTorch's dense convolution is quicker, but for that of images, of few channels.
FEW, CHANNELS = 0.5, 4

Pair = tuple[int, int]
Answer = Callable[[Tensor], Tensor]


class Differentiable(Interpreter):
    """A float32 graph on the CPU as a function from images [n, *shape] to logits [n, classes], to be differentiated.

    Convolutions with few numbers left run on the sparse engine in both directions, on `threads` of it; all else is
    PyTorch's own, operator by operator. Only the images get a gradient, and that once: a gradient of the gradient is
    refused by PyTorch. Logits are off by the rounding of another order of sums. Raises `HarpError` where the engine is
    not built.
    """

    def __init__(self, graph: Graph, threads: int = 1):
        super().__init__(graph)
        self._sizes, self._build, self._threads = shapes(graph), native(), threads
        self._steps = tuple(map(self._sparse, self._steps))

    def _sparse(self, step: Step) -> Step:
        """The step, a sparse convolution as calls of the engine."""
        if step.call is not torch.ops.aten.conv2d.default:
            return step
        x, weight, bias, stride, padding, dilation, groups = step.args
        filters, added = (None if ref is None else self._tensors.get(ref.name) for ref in (weight, bias))
        if filters is None or (bias is not None and added is None):  # computed by the graph itself
            return step
        few = filters.shape[1] <= CHANNELS or int(filters.count_nonzero()) <= FEW * filters.numel()
        if groups != 1 or not few:
            return step
        compiled = _compiler(self._build, self._threads)
        window = (pair(stride), pair(padding), pair(dilation))
        forth = compiled(filters, added, self._sizes[x.name][1:], *window)
        images, results = (pair(self._sizes[name][2:]) for name in (x.name, step.name))
        back = Back(filters, images, results, *window, compiled)
        return replace(step, call=Convolution(forth, back), args=(x,))


@dataclass(frozen=True)
class Convolution:
    """A convolution of images [n, c, h', w'] to results [n, o, h, w], which makes their gradients, too."""

    forth: Answer
    back: Answer

    def __call__(self, images: Tensor) -> Tensor:
        made: Tensor = _Product.apply(images, self.forth, self.back)  # type: ignore[no-untyped-call]
        return made


Compiled = Callable[[Tensor, Tensor | None, tuple[int, ...], Pair, Pair, Pair], Answer]


def _compiler(build: Native, threads: int) -> Compiled:
    """What makes a convolution of weights, bias, an image's shape, stride, padding and dilation, in the engine."""

    def compiled(
        weight: Tensor, bias: Tensor | None, shape: tuple[int, ...], stride: Pair, padding: Pair, dilation: Pair
    ) -> Engine:
        tensors: dict[str, Tensor | Sparse] = {"weight": Sparse.of(weight)}
        if bias is not None:
            tensors["bias"] = bias
        args = (Ref("image"), Ref("weight"), None if bias is None else Ref("bias"), stride, padding, dilation, 1)
        return Engine(Graph("image", shape, (Node("made", "conv2d", args),), "made", tensors), threads, build)

    return compiled


class Back:
    """The gradient of a convolution's images from that of its results, [n, o, h, w] to [n, c, h', w']: a convolution.

    Every `stride`-th pixel of an image is read by the same weights. So the pixels of one such phase are a convolution
    of the results at stride 1; those of all phases are the channels of one, and are put in their places afterwards.
    """

    def __init__(
        self, weight: Tensor, image: Pair, made: Pair, stride: Pair, padding: Pair, dilation: Pair, compiled: Compiled
    ):
        self.image, self.stride, self.channels = image, stride, weight.shape[1]
        each = zip(weight.shape[2:], image, made, stride, padding, dilation, strict=True)
        rows, columns = (_axis(*of) for of in each)
        phases = weight.new_zeros(*stride, weight.shape[1], weight.shape[0], 2 * rows.reach + 1, 2 * columns.reach + 1)
        for tap, (phase, down) in enumerate(rows.taps):
            for across, (beside, right) in enumerate(columns.taps):
                phases[phase, beside, :, :, down, right] = weight[:, :, tap, across].T
        self.more = (0, columns.more, 0, rows.more)
        shape = (weight.shape[0], made[0] + rows.more, made[1] + columns.more)
        self.product = compiled(phases.flatten(0, 2), None, shape, (1, 1), (rows.reach, columns.reach), (1, 1))

    def __call__(self, grad: Tensor) -> Tensor:
        found = self.product(functional.pad(grad, self.more) if any(self.more) else grad)
        if self.stride == (1, 1):
            return found[:, :, : self.image[0], : self.image[1]]
        phases = found.view(len(grad), *self.stride, self.channels, *found.shape[2:])
        placed = grad.new_empty(len(grad), self.channels, *self.image)
        down, across = self.stride
        for row in range(down):
            for column in range(across):
                place = placed[:, :, row::down, column::across]
                place.copy_(phases[:, row, column, :, : place.shape[2], : place.shape[3]])
        return placed


@dataclass(frozen=True)
class _Axis:
    """Where, along one axis, the results lie that each tap of a convolution takes an image's pixel to.

    Of each tap the phase of the pixels that it reads, and where the result lies, counted from `reach` before the
    pixel's own place in its phase; `more` results, all 0, are added, so that there is one for each pixel of a phase.
    """

    taps: tuple[Pair, ...]
    reach: int
    more: int


def _axis(kernel: int, image: int, made: int, stride: int, padding: int, dilation: int) -> _Axis:
    # Tap t of result r reads pixel r * stride + t * dilation - padding, which is q * stride + phase where r = q + far.
    taps = [((tap * dilation - padding) % stride, -((tap * dilation - padding) // stride)) for tap in range(kernel)]
    reach = max(abs(far) for _, far in taps)
    pixels = -(-image // stride)
    return _Axis(tuple((phase, far + reach) for phase, far in taps), reach, max(0, pixels - made))


class _Product(torch.autograd.Function):
    """What `forth` makes of the images, and `back` of the gradient."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, forth: Answer, back: Answer) -> Tensor:
        ctx.back = back
        return forth(images)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return ctx.back(grad), None, None
