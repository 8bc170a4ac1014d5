"""Images made against another network, shown to this one."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from harp.attacks.base import guarded
from harp.attacks.losses import Loss, margin
from harp.evaluation.doubts.probes import Climb, tempered
from harp.evaluation.steadiness import ask
from harp.modes import evaluating, frozen
from harp.randomness import Noise, given, per_image
from harp.threats import Threat, per_point


@dataclass(frozen=True)
class Transferred:
    """An attack whose images are made against `other` alone: `steps` steps uphill on each of two losses.

    Of each ascent the network is shown the last image and the first that `other` answers wrongly, and of these four the
    one that does it most harm is given. Ascents go on beyond the first success, since what stops there hardly breaks
    another network (Papernot et al., 2016). `name` says whose `other` is; `batch`: points at once, None for all.
    """

    other: nn.Module = field(repr=False)
    steps: int
    name: str = ""
    batch: int | None = None
    gradient_free: ClassVar[bool] = True
    """no gradient of the network attacked is used"""

    @guarded
    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, noise: Noise | None = None) -> Tensor:
        best, most = x, torch.full_like(y, -torch.inf, dtype=x.dtype)
        for adv in self._shown(x, y, threat, given(noise, x)):
            logits = ask(model, adv, self.batch)
            # Logits that are not finite are a wrong answer.
            harm = margin(logits, y).where(logits.isfinite().all(1), torch.inf).to(x.dtype)
            best = torch.where(per_point(harm > most, x), adv, best)
            most = torch.maximum(most, harm)
        return best

    def _shown(self, x: Tensor, y: Tensor, threat: Threat, noise: Noise) -> Iterator[Tensor]:
        losses: tuple[Loss, ...] = (margin, tempered)
        for draw, loss in enumerate(losses):
            last = broken = x
            done = torch.zeros(len(x), dtype=torch.bool, device=x.device)
            climb = Climb(loss, self.steps, self.batch)
            with evaluating(self.other), frozen(self.other):
                for adv, logits in climb.images(self.other, x, y, threat, per_image(noise, len(x)).at(draw)):
                    first = (margin(logits, y) > 0) & ~done
                    broken, done, last = torch.where(per_point(first, x), adv, broken), done | first, adv
            yield broken
            yield last
