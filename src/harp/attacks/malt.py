"""APGD towards the classes whose boundaries look nearest, which matters where there are many classes."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harp.attacks.apgd import APGD
from harp.attacks.hyperplanes import boundaries
from harp.attacks.pgd import ATTACKS
from harp.errors import HarpError
from harp.threats import Threat


@dataclass(frozen=True)
class MALT(APGD):
    """`APGD` whose `targets` are, of the `among` most probable wrong classes, those nearest to the image.

    Nearest if the network went on from the image as a linear one, in the threat's norm: (z_y - z_t) over the dual norm
    of its gradient, one backward pass for each of `among` (Melamed et al., NeurIPS 2024, "mesoscopic almost linearity
    targeting"). Raises `HarpError` as `APGD` does, and without `targets`.
    """

    among: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.targets is None or self.among < 1:
            raise HarpError(f"targets is {self.targets} and among {self.among}; expected at least 1 of each")

    def aims(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        assert self.targets is not None
        with torch.no_grad():
            others = model(x).scatter(1, y[:, None], -torch.inf)
        count = min(self.targets, others.shape[1] - 1)
        likely = others.topk(min(max(self.among, count), others.shape[1] - 1)).indices
        order = boundaries(model, x, y, likely, threat.norm).argsort(dim=1, stable=True)[:, :count]
        nearest: Tensor = likely.gather(1, order).repeat_interleave(self.restarts, 1)
        return nearest


@ATTACKS.register("malt")
def malt(steps: int = 100, targets: int = 9, restarts: int = 1, eot: int = 1, batch: int | None = None) -> MALT:
    """APGD towards the nine classes whose boundaries look nearest, of the 100 most probable (MALT; NeurIPS 2024)."""
    return MALT("dlr", steps=steps, restarts=restarts, targets=targets, eot=eot, batch=batch)
