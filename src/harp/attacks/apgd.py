"""AutoPGD on the cross-entropy, two margins, of logits and of probabilities, and towards each of several classes."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from harp.attacks.ascent import Ascent
from harp.attacks.base import guarded
from harp.attacks.halving import Halving
from harp.attacks.losses import LOSSES, TARGETED
from harp.attacks.pgd import ATTACKS
from harp.attacks.sparse import Sparse
from harp.attacks.sweep import sweep
from harp.errors import HarpError, choices
from harp.randomness import Noise, given
from harp.threats import Threat


@dataclass(frozen=True)
class APGD:
    """Adversarial images by gradient ascent that sets its own step sizes, and the image itself where none is found.

    A run takes `steps` steps from a random start; a point has `restarts` runs, or with `targets` as many for each of
    the wrong classes most probable for the image, that number of them at most and all there are at most, on the loss
    that leads there. A point is done when a query finds it wrong (`losses.wrong`). For norms inf and 2 the step is
    halved where less than a share `rho` of the steps raised the loss; for norm 1 steps are sparse, and a run's first
    60 % are in larger balls. Each gradient is the mean of `eot` passes, for networks that draw random numbers, and the
    last of them gives loss and verdict. `batch`: points under way at once; None: all.

    Raises `HarpError` where a number is too small to mean anything, and for targets of a loss that has no such form.
    Croce & Hein, ICML 2020 (algorithm 1); for norm 1 Croce & Hein, "Mind the box", ICML 2021.
    """

    loss: Literal["crossentropy", "dlr", "probability-margin"] = "crossentropy"
    steps: int = 100
    restarts: int = 1
    targets: int | None = None
    rho: float = 0.75
    eot: int = 1
    batch: int | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "restarts", "targets", "eot", "batch"):
            value, least = getattr(self, name), int(name != "steps")
            if value is not None and value < least:
                raise HarpError(f"{name}: expected at least {least}, got {value}")
        if self.targets is not None and self.loss not in TARGETED:
            raise HarpError(f"no loss {self.loss!r} with targets; {choices(self.loss, TARGETED)}")

    @guarded
    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, noise: Noise | None = None) -> Tensor:
        noise = given(noise, x)
        return sweep(self.search(model, threat, x.device), model, x, y, noise, self.batch)

    def search(self, model: nn.Module, threat: Threat, device: torch.device) -> Ascent:
        """The search that a sweep runs for this attack."""

        def aims(x: Tensor, y: Tensor) -> Tensor:
            return self.aims(model, x, y, threat)

        if threat.norm == 1:
            return Sparse(model, threat, aims, self._loss, self.steps, self.eot, device)
        return Halving(model, threat, aims, self._loss, self.steps, self.eot, device, self.rho)

    def _loss(self, logits: Tensor, y: Tensor, aim: Tensor) -> Tensor:
        return LOSSES[self.loss](logits, y) if self.targets is None else TARGETED[self.loss](logits, y, aim)

    @torch.no_grad()
    def aims(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        """The class that each run of a point goes for, [n, runs]; its own where it just goes away."""
        if self.targets is None:
            return y[:, None].repeat(1, self.restarts)
        others = model(x).scatter(1, y[:, None], -torch.inf)
        likely: Tensor = others.topk(min(self.targets, others.shape[1] - 1)).indices
        return likely.repeat_interleave(self.restarts, 1)


@ATTACKS.register("apgd-ce")
def apgd_ce(steps: int = 100, restarts: int = 1, eot: int = 1, batch: int | None = None) -> APGD:
    """AutoPGD on the cross-entropy, 100 steps of its own choice (Croce & Hein, ICML 2020)."""
    return APGD(steps=steps, restarts=restarts, eot=eot, batch=batch)


@ATTACKS.register("apgd-dlr")
def apgd_dlr(steps: int = 100, restarts: int = 1, eot: int = 1, batch: int | None = None) -> APGD:
    """AutoPGD on the difference of logits ratio, which no scale of the logits hides from (Croce & Hein, ICML 2020)."""
    return APGD("dlr", steps=steps, restarts=restarts, eot=eot, batch=batch)


@ATTACKS.register("apgd-t")
def apgd_t(steps: int = 100, targets: int = 9, restarts: int = 1, eot: int = 1, batch: int | None = None) -> APGD:
    """AutoPGD towards each of the nine most probable wrong classes in turn (Croce & Hein, ICML 2020)."""
    return APGD("dlr", steps=steps, restarts=restarts, targets=targets, eot=eot, batch=batch)


@ATTACKS.register("apgd-pma")
def apgd_pma(steps: int = 100, restarts: int = 1, eot: int = 1, batch: int | None = None) -> APGD:
    """AutoPGD on the margin of probabilities, the loss of PMA (arXiv 2411.15210), in one phase and untargeted."""
    return APGD("probability-margin", steps=steps, restarts=restarts, eot=eot, batch=batch)
