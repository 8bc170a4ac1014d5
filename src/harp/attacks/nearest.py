"""What attacks that make perturbations small have in common: the last bit of the way back to the image."""

from typing import Protocol

import torch
from torch import Tensor, nn

from harp.attacks.base import Attack
from harp.attacks.losses import wrong
from harp.attacks.surrogate import judge
from harp.modes import evaluating
from harp.randomness import Noise
from harp.threats import Threat, per_point

# To 6e-5 of a distance, for less than the price of ten steps.
HALVINGS = 14


class Nearest(Attack, Protocol):
    """An attack that also looks for the adversarial images nearest to the images, whatever eps is."""

    def nearest(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, noise: Noise) -> tuple[Tensor, Tensor]:
        """The nearest adversarial images found, like `x`, and their distances [n]; where there is none, `x` and inf."""


def pulled_back(
    model: nn.Module, x: Tensor, adv: Tensor, y: Tensor, threat: Threat, batch: int | None
) -> tuple[Tensor, Tensor]:
    """Each of `adv` moved straight towards its image until it is about to turn right, and the distances [n].

    By halving; the network itself judges, `batch` images at a time (None: all). Images that are their own `adv` and are
    right are at inf, those that are wrong at 0.
    """
    adv, distance, size = adv.clone(), threat.distance(adv, x), batch or max(1, len(x))
    with evaluating(judge(model)), torch.no_grad():
        for start in range(0, len(x), size):
            part = slice(start, start + size)
            adv[part], share = _pulled(judge(model), x[part], adv[part], y[part], threat)
            # What never was wrong on the way from the image to itself is right.
            none = (distance[part] == 0) & (share == 1)
            distance[part] = threat.distance(adv[part], x[part]).masked_fill(none, torch.inf)
    return adv, distance


def _pulled(model: nn.Module, x: Tensor, adv: Tensor, y: Tensor, threat: Threat) -> tuple[Tensor, Tensor]:
    """The nearest images found wrong on the way from `x` to `adv`, and the share of its distance that is left, [n]."""
    right, far, nearest = x.new_zeros(len(x)), x.new_ones(len(x)), adv
    for _ in range(HALVINGS):
        middle = (right + far) / 2
        image = (x + (adv - x) * per_point(middle, x)).clamp(threat.low, threat.high)
        bad = wrong(model(image), y)
        right, far = torch.where(bad, right, middle), torch.where(bad, middle, far)
        nearest = torch.where(per_point(bad, x), image, nearest)
    return nearest, far
