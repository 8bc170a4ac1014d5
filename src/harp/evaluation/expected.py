"""A network that draws random numbers, as what it says on average over several draws."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from harp.attacks.losses import wrong
from harp.errors import HarpError


class Expected(nn.Module):
    """The mean logits [n, classes] of `draws` answers of `model` to the same images, drawn anew at each query.

    Whoever follows its gradients follows the mean of so many draws' gradients: expectation over transformation (Athalye
    et al., "Synthesizing robust adversarial examples", ICML 2018), for any attack, and a search without gradients
    compares means. Nothing is fitted to a few frozen draws. A gradient takes the memory of `draws` passes.

    `evaluate` takes an image for right only where every one of `draws` fresh answers is: so the share of such images is
    at most the chance that one answer is right, and less the more draws there are. A vote of the draws could flatter:
    a network that is right in 51 % of its answers to every image would be right in all. Raises `HarpError` for fewer
    than two draws.
    """

    def __init__(self, model: nn.Module, draws: int):
        super().__init__()
        if draws < 2:
            raise HarpError(f"draws: expected at least 2, got {draws}; one answer is the network itself")
        self.model, self.draws = model, draws
        self.train(model.training)

    def forward(self, x: Tensor) -> Tensor:
        total = cast(Tensor, self.model(x))
        for _ in range(self.draws - 1):
            total = total + self.model(x)
        return total / self.draws


def within(model: nn.Module, change: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """`change` made to `model`, or to the network in an `Expected`."""
    return Expected(change(model.model), model.draws) if isinstance(model, Expected) else change(model)


def single(model: nn.Module) -> nn.Module:
    """What gives one answer: `model`, or the network in an `Expected`."""
    return model.model if isinstance(model, Expected) else model


def draws_of(model: nn.Module) -> int:
    """How many answers count for a verdict."""
    return model.draws if isinstance(model, Expected) else 1


@torch.no_grad()
def votes(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """How many of `draws_of` answers to each image are right, int64 [n]; one that is not finite is wrong."""
    answers = (single(model)(x.clone()) for _ in range(draws_of(model)))
    return torch.stack([~wrong(logits, y) for logits in answers]).sum(0)
