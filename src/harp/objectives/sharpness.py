"""Where the weights stand while a step's gradient is taken: where they are, or uphill (AWP)."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harp.errors import HarpError
from harp.objectives.base import Closure

Kept = Callable[[], Mapping[nn.Parameter, Tensor]]
"""The bool masks of what pruning left; a parameter without one is whole."""


class Ascent:
    """Moves nothing; around the evaluation, backward pass and pull of a step, never its optimizer's."""

    @contextmanager
    def __call__(self, model: nn.Module, evaluate: Closure, step: int, kept: Kept) -> Iterator[None]:
        """Within it the weights stand where the gradient of step `step` (from 0) is to be taken; then as before."""
        yield


LEVEL = Ascent()


@dataclass(frozen=True)
class AWP(Ascent):
    """Weights at w + v, v = `gamma` |w| d / |d| for each tensor, d the loss's gradient at w (Wu et al., NeurIPS 2020).

    Tensors named *weight of two or more dimensions move, so neither biases nor normalisation. Norms and d are over
    the entries that pruning left; pruned ones stay zero. The first `warmup` steps are left as they are. The loss is
    evaluated twice, with the same dropout, and running statistics see the second evaluation only. Enter autocast in
    the closure, not around this: raises `HarpError` inside an autocast region, which would go on using w.
    """

    gamma: float = 0.01
    warmup: int = 0

    @contextmanager
    def __call__(self, model: nn.Module, evaluate: Closure, step: int, kept: Kept) -> Iterator[None]:
        if step < self.warmup:
            yield
            return
        weights = _movable(model)
        if weights and torch.is_autocast_enabled(weights[0].device.type):
            raise HarpError("AWP moves weights, which autocast does not notice; enter autocast inside the closure")
        uphill = _gradients(model, evaluate, weights)
        before = [weight.detach().clone() for weight in weights]
        masks = kept()
        try:
            with torch.no_grad():
                for weight, d in zip(weights, uphill, strict=True):
                    if d is not None:
                        weight.add_(_move(weight, d, masks.get(weight), self.gamma))
            yield
        finally:
            with torch.no_grad():
                for weight, value in zip(weights, before, strict=True):
                    weight.copy_(value)


def _movable(model: nn.Module) -> list[nn.Parameter]:
    named = model.named_parameters()
    return [p for name, p in named if name.endswith("weight") and p.ndim >= 2 and p.requires_grad]


def _gradients(model: nn.Module, evaluate: Closure, weights: list[nn.Parameter]) -> tuple[Tensor | None, ...]:
    """The loss's gradient at each weight, None where the loss does not depend on it; buffers are left as they were."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    cuda = [weights[0].device] if weights and weights[0].device.type == "cuda" else []
    with torch.random.fork_rng(cuda):
        loss = evaluate()
    # Of the weights alone: backward would also leave gradients on the biases, and on Free-AT's images.
    found = torch.autograd.grad(loss, weights, allow_unused=True) if weights else ()
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    return found


def _move(weight: Tensor, d: Tensor, mask: Tensor | None, gamma: float) -> Tensor:
    if mask is not None:
        d = d.masked_fill(~mask, 0)
    # Scaled by the largest entry first: the square of a confident model's 1e-25 would be 0 in float32.
    largest = d.abs().amax()
    d = d / torch.where(largest > 0, largest, torch.ones_like(largest))
    length = torch.linalg.vector_norm(d)
    factor = gamma * torch.linalg.vector_norm(weight) / torch.where(length > 0, length, torch.ones_like(length))
    moved: Tensor = d * factor
    return moved
