"""A batch worked through in parts, so that a step needs the memory of one of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harp.errors import HarpError
from harp.objectives.base import Around, Closure, Objective

LEAF = "torch::autograd::AccumulateGrad"


@dataclass
class Accumulated(Around):
    """The mean loss of `parts` equal parts of a batch, each attacked, evaluated and differentiated by itself.

    Whoever evaluates it gets a scalar that knows its gradient already, at all tensors that learn: so weight
    perturbations and scores work as they do on whole batches. Batch norms see the parts, and draws are made part by
    part. Raises `HarpError` for fewer than two parts, a batch that does not divide into them, and an objective
    whose images learn from the step's own backward pass.
    """

    objective: Objective
    parts: int

    def __post_init__(self) -> None:
        if self.parts < 2:
            raise HarpError(f"accumulate: a batch in {self.parts} parts; expected at least 2")
        if self.objective.moves_images:
            raise HarpError(
                f"accumulate is {self.parts}, but {type(self.objective).__name__} moves its images by the gradient of "
                "the whole step; expected accumulate 1, or another objective"
            )

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, noise: torch.Generator) -> Iterator[Closure]:
        if len(x) % self.parts:
            raise HarpError(f"accumulate: {len(x)} images do not divide into {self.parts} equal parts")
        pairs = zip(x.chunk(self.parts), y.chunk(self.parts), strict=True)
        made = [self.objective(model, *pair, noise) for pair in pairs]
        for closures in zip(*made, strict=True):
            yield lambda closures=closures: _mean(closures)  # type: ignore[misc]


def _mean(closures: Sequence[Closure]) -> Tensor:
    """The mean of the losses; each one's graph is gone before the next is made."""
    losses: list[Tensor] = []
    sums: dict[Tensor, Tensor | None] = {}
    for closure in closures:
        loss = closure()
        losses.append(loss.detach())
        trained = _trained(loss)
        grads = torch.autograd.grad(loss / len(closures), trained, allow_unused=True) if trained else ()
        sums |= {at: _sum(sums.get(at), grad) for at, grad in zip(trained, grads, strict=True)}
    found: Tensor = _Known.apply(torch.stack(losses).mean(), list(sums.values()), *sums)  # type: ignore[no-untyped-call]
    return found


def _trained(loss: Tensor) -> list[Tensor]:
    """All that the loss can be differentiated by: the model's parameters, and what a pruner hangs on its layers."""
    found: dict[Tensor, None] = {}
    nodes, seen = [loss.grad_fn], set[Any]()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.name() == LEAF:
            found[node.variable] = None  # type: ignore[attr-defined]
        nodes += [before for before, _ in node.next_functions]
    return list(found)


def _sum(before: Tensor | None, grad: Tensor | None) -> Tensor | None:
    if before is None or grad is None:
        return grad if before is None else before
    return before + grad


class _Known(torch.autograd.Function):
    """A value whose gradient at some tensors was computed before."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, grads: Sequence[Tensor | None], *at: Tensor) -> Tensor:
        ctx.grads = grads
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(None if grad is None else outer[0] * grad for grad in ctx.grads)
