"""How often an evaluation asks a network about one image, counted on a network that costs next to nothing."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harp.attacks import Attack, Cascade, Quick
from harp.quiet import quiet
from harp.randomness import Keyed
from harp.threats import Threat


@dataclass(frozen=True)
class Queries:
    """How many forward passes, and how many passes forward and back."""

    forward: int = 0
    gradient: int = 0

    def __add__(self, other: "Queries") -> "Queries":
        return Queries(self.forward + other.forward, self.gradient + other.gradient)


class Told(nn.Module):
    """Says the label of one image and counts who asks; unless it `holds`, of that very image alone.

    A faint linear part gives attacks a gradient to follow, and leads nowhere.
    """

    def __init__(self, image: Tensor, classes: int, holds: bool):
        super().__init__()
        self.image, self.holds = image, holds
        slope = torch.rand(image[0].numel(), classes, generator=torch.Generator().manual_seed(0))
        self.slope = 1e-4 * slope / image[0].numel()
        self.asked = Queries()

    def forward(self, x: Tensor) -> Tensor:
        graded = torch.is_grad_enabled() and x.requires_grad
        self.asked += Queries(gradient=len(x)) if graded else Queries(forward=len(x))
        right = (x.detach() - self.image).flatten(1).abs().amax(1) < 1e-7
        label = torch.zeros(len(x), dtype=torch.long) if self.holds else (~right).long()
        return nn.functional.one_hot(label, self.slope.shape[1]) + x.flatten(1) @ self.slope


def queries(
    attacks: Mapping[str, Attack], shape: tuple[int, ...], classes: int, threat: Threat
) -> tuple[Queries, Queries]:
    """For one image, `shape` [c, h, w], that is right clean: the least that it may take, and the most.

    The least where it falls at the first query of each attack (of a `Cascade` the first one breaks it), the most where
    it holds to the end. An image that is wrong clean takes one forward pass.
    """
    image, label = torch.full((1, *shape), 0.5), torch.zeros(1, dtype=torch.long)
    found = []
    for holds in (False, True):
        model = Told(image, classes, holds).eval()
        tried = list(attacks.items())[: None if holds or not isinstance(attacks, Cascade) else 1]
        for name, attack in tried:
            noise = Keyed.of(torch.zeros(1, dtype=torch.long), 0, "probe", name)
            with quiet():
                (attack.attack if isinstance(attack, Quick) else attack)(model, image, label, threat, noise)
        # The clean pass, and the look at what each attack made.
        found.append(model.asked + Queries(forward=1 + len(tried)))
    return found[0], found[1]
