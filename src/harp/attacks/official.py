"""AutoAttack by its authors' own package, in guards against what that package does to its surroundings.

Adversarial images are bit for bit the package's own, for the same points, seed and batch size, wherever it runs at all
and its images lie inside the threat. What the guards repair, fault by fault: tests/attacks/test_official.py.
"""

import math
import warnings
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from harp.attacks.base import AttackWarning, guarded
from harp.attacks.guards import Heard, follows, resealed, undisturbed
from harp.attacks.losses import margin
from harp.attacks.surrogate import judge
from harp.attacks.versions import components
from harp.errors import HarpError, choices
from harp.extras import need
from harp.modes import evaluating, frozen
from harp.randomness import Noise, given
from harp.threats import Threat, per_point

NORMS = {math.inf: "Linf", 2: "L2", 1: "L1"}
INSIDE = 1e-6


@dataclass(frozen=True)
class Official:
    """Adversarial images by one attack of the authors' AutoAttack (`pyautoattack`), with the settings of `version`.

    A point whose search fails, or that is wrong already, comes back as it is; so does one whose logits are not finite.
    `batch` points (None: all) are attacked at a time; the package seeds torch's generator with `seed` for each batch,
    so `noise` is not used, and points handed over in shards of `batch` have the images of one call. A `Surrogate` is
    not attacked: its original is. No head has more targets than it has other classes. For heads too small for a DLR
    loss the margin stands in: of two classes without a denominator, of three (targeted) with z_(1) - z_(3).

    What the package would log, and what the guards had to do, is issued as `AttackWarning`, once a call. Raises
    `HarpError` for a name that `version` has not, a box other than [0, 1], images that are not float32, one class,
    and (square, norms 2 and 1) images of fewer than five rows, on which the package divides by zero.
    """

    name: str
    version: str = "standard"
    seed: int = 0
    batch: int | None = None

    def __post_init__(self) -> None:
        names = components(self.version)
        if self.name not in names:
            raise HarpError(f"AutoAttack {self.version!r} has no attack {self.name!r}; {choices(self.name, names)}")

    @guarded
    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, noise: Noise | None = None) -> Tensor:
        noise = given(noise, x)
        self.fits(x, threat)
        # Row by row in memory, whatever the layout of x: the package takes views.
        adv = x.detach().clone(memory_format=torch.contiguous_format)
        if threat.eps == 0 or not len(x):
            return adv
        model, heard = judge(model), Heard()
        with evaluating(model), frozen(model), undisturbed(self.seed), torch.no_grad():
            logits = self._logits(model, adv)
            able = logits.isfinite().all(1)
            if not able.all():
                heard.note("logits: some are not finite; those points are not attacked")
            if able.any() and self._leads(model, adv[able], heard):
                model = resealed(model, adv[able][:1], self.seed, heard)
                auto = self._authors(model, x.device, threat, logits.shape[1], heard)
                adv[able] = self._attacked(auto, adv[able], y[able], threat, heard)
        for note in heard.notes:
            warnings.warn(AttackWarning(f"{self.name}, {note}"), stacklevel=3)
        return adv

    def fits(self, x: Tensor, threat: Threat) -> None:
        """Raises `HarpError` for images and threats that the package does not take."""
        components(self.version, threat.norm)
        if (threat.low, threat.high) != (0, 1):
            box = f"[{threat.low}, {threat.high}]"
            raise HarpError(f"the official AutoAttack keeps pixels in [0, 1] and knows no other box; got {box}")
        if x.dtype != torch.float32:
            raise HarpError(f"the official AutoAttack computes in float32; got images of {x.dtype}: use .float()")
        if self.name == "square" and threat.norm != math.inf and x.shape[2] < 5:
            raise HarpError(f"square under norms 2 and 1 needs images of five rows at least; got {x.shape[2]}")

    def _leads(self, model: nn.Module, x: Tensor, heard: Heard) -> bool:
        """Whether there is something to follow: the package stops with an error where autograd knows no way back."""
        if self.name == "square" or follows(model, x[: self.batch or len(x)]):
            return True
        heard.note("gradients: autograd knows no way from the logits back to the images; the attack was not run")
        return False

    def _logits(self, model: nn.Module, x: Tensor) -> Tensor:
        return torch.cat([model(part) for part in torch.split(x, self.batch or len(x))])

    def _authors(self, model: nn.Module, device: torch.device, threat: Threat, classes: int, heard: Heard) -> Any:
        """The package's object, with the settings of the version and no voice of its own."""
        if classes < 2:
            raise HarpError(f"{self.name} needs a network with two classes at least; got {classes}")
        package, checks = (need(name, "attacks", "AutoAttack") for name in ("pyautoattack", "pyautoattack.checks"))
        # Calls of autograd that its check for dynamic networks counted in other networks would be laid to this one.
        checks.funcs.update(dict.fromkeys(checks.funcs, 0))
        norm, eps = NORMS[threat.norm], float(threat.eps)
        auto = package.AutoAttack(model, norm=norm, eps=eps, seed=self.seed, version=self.version, device=device)
        auto.verbose, auto.attacks_to_run = False, [self.name]
        for part in (auto, auto.apgd, auto.apgd_targeted):
            part.logger = heard
        _fitted(auto, classes, heard)
        return auto

    def _attacked(self, auto: Any, x: Tensor, y: Tensor, threat: Threat, heard: Heard) -> Tensor:
        adv: Tensor = auto.run_standard_evaluation(x, y, batch_size=self.batch or len(x))[0]
        excess = threat.excess(adv, x)
        out = (~(excess <= INSIDE)).nonzero().squeeze(1)  # so written, NaN is out
        if not len(out):
            return adv
        # Under norm 1 rounding takes the package some 1e-5 outside; as far inside there is room for ours.
        image, share = x[out], 1 - 2 * excess[out] / threat.distance(adv[out], x[out])
        drawn = (image + per_point(share, x) * (adv[out] - image)).clamp(0, 1)
        good = (threat.excess(drawn, image) <= INSIDE) & (self._logits(auto.model, drawn).argmax(1) != y[out])
        if not good.all():
            heard.note("threat: images that were not numbers, or wrong only outside the threat, were dropped")
        return adv.index_copy(0, out, torch.where(per_point(good, x), drawn, image))


def _fitted(auto: Any, classes: int, heard: Heard) -> None:
    """The package's attacks with no more targets than a head has, and for two or three classes with another loss."""
    for part in (auto.apgd_targeted, auto.fab):
        part.n_target_classes = min(part.n_target_classes, classes - 1)
    if classes == 2:
        auto.apgd.dlr_loss = margin
    if classes < 4:
        auto.apgd_targeted.dlr_loss_targeted = MethodType(_towards, auto.apgd_targeted)
    if classes < {"apgd-dlr": 3, "apgd-t": 4}.get(auto.attacks_to_run[0], 0):
        divisor = "no denominator" if classes == 2 else "the denominator of the untargeted loss"
        heard.note(f"classes: its loss is not defined for {classes}; the margin with {divisor} stands in for it")


def _towards(targeted: Any, logits: Tensor, y: Tensor) -> Tensor:
    """How far the target's logit is above the right one, [n], over z_(1) - z_(3) where there are three classes."""
    gap = (logits.gather(1, targeted.y_target[:, None]) - logits.gather(1, y[:, None])).squeeze(1)
    return gap if logits.shape[1] == 2 else gap / (logits.amax(1) - logits.amin(1) + 1e-12)
