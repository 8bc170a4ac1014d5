"""A batch worked through in parts, so that a step needs the memory of one of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harp.errors import HarpError
from harp.objectives.base import Closure, Objective
from harp.runs import Tree


@dataclass
class Accumulated(Objective):
    """The mean loss of `parts` equal parts of a batch, each attacked, evaluated and differentiated by itself.

    Whoever evaluates it gets a scalar that knows its gradient at the model's parameters already, and at nothing else:
    so weight perturbations and scores work as they do on whole batches. Batch norms see the parts, and draws are made
    part by part. Raises `HarpError` for fewer than two parts, a batch that does not divide into them, and an objective
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

    @property
    def replays(self) -> int:  # type: ignore[override]
        """Those of the objective."""
        return self.objective.replays

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, noise: torch.Generator) -> Iterator[Closure]:
        if len(x) % self.parts:
            raise HarpError(f"accumulate: {len(x)} images do not divide into {self.parts} equal parts")
        pairs = zip(x.chunk(self.parts), y.chunk(self.parts), strict=True)
        made = [self.objective(model, *pair, noise) for pair in pairs]
        for closures in zip(*made, strict=True):
            yield lambda closures=closures: _mean(model, closures)  # type: ignore[misc]

    def notes(self) -> list[str]:
        return self.objective.notes()

    def state_dict(self) -> Tree:
        return self.objective.state_dict()

    def load_state_dict(self, state: Tree) -> None:
        self.objective.load_state_dict(state)


def _mean(model: nn.Module, closures: Sequence[Closure]) -> Tensor:
    """The mean of the losses; each one's graph is gone before the next is made."""
    trained = [param for param in model.parameters() if param.requires_grad]
    if not torch.is_grad_enabled():
        return torch.stack([closure() for closure in closures]).mean()
    losses: list[Tensor] = []
    sums: list[Tensor | None] = [None] * len(trained)
    for closure in closures:
        loss = closure()
        grads = torch.autograd.grad(loss / len(closures), trained, allow_unused=True)
        sums = [_sum(before, grad) for before, grad in zip(sums, grads, strict=True)]
        losses.append(loss.detach())
    found: Tensor = _Known.apply(torch.stack(losses).mean(), sums, *trained)  # type: ignore[no-untyped-call]
    return found


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
