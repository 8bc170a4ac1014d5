"""The points a network is examined on, and what is measured of them only once."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from harp.attacks import Attack
from harp.attacks.losses import crossentropy, margin
from harp.evaluation.doubts.geometry import enlarged
from harp.evaluation.doubts.probes import Blind, Climb, Ended, Path, Search, ask, slope, tempered, together
from harp.randomness import Keyed
from harp.threats import Threat

# Gradients in a climb from the image, in one from a corner, and queries of a search without gradients. With two losses
# and four radii a point costs at most 870 passes, forward and backward counted apart; AutoAttack takes some 10,000.
SHORT, LONG, QUERIES = 20, 100, 200


@dataclass(frozen=True, eq=False)
class Sample:
    """n images with labels, the network in eval mode, a threat, and what an evaluation found.

    `flags`: measure -> bool [N], true where the network was right; `places` (int64 [n]) are the sample's rows in it.
    `gradient_free` names the attacks among them that use no gradient, `black_box` is one to run here in place of a
    search of random corners. m of the images are answered rightly, and only these are attacked.
    """

    model: nn.Module
    x: Tensor
    y: Tensor
    threat: Threat
    noise: Keyed
    places: Tensor
    flags: Mapping[str, Tensor]
    gradient_free: Collection[str]
    black_box: Attack | None
    batch: int | None

    @cached_property
    def logits(self) -> Tensor:
        """Those of the clean images, [n, classes]."""
        return ask(self.model, self.x, self.batch)

    @cached_property
    def right(self) -> Tensor:
        """Which images are answered rightly, int64 [m]."""
        return (self.logits.argmax(1) == self.y).nonzero().squeeze(1)

    @property
    def m(self) -> int:
        return len(self.right)

    @cached_property
    def margins(self) -> Tensor:
        """How far the right logit is above the next, [m]."""
        return -margin(self.logits[self.right], self.y[self.right])

    @cached_property
    def gradients(self) -> dict[str, Tensor]:
        """Of each loss at the clean images, [m, ...]."""
        x, y = self.x[self.right], self.y[self.right]
        both = {"crossentropy": crossentropy, "margin": margin}
        # Not every network takes an empty batch.
        return {name: slope(self.model, x, y, loss, self.batch)[1] if self.m else x for name, loss in both.items()}

    @cached_property
    def short(self) -> Path:
        """Both losses climbed in few steps from the image."""
        return self._among(
            self.right >= 0, [Climb(loss, SHORT, self.batch) for loss in (margin, tempered)], self.threat
        )

    @cached_property
    def standing(self) -> Tensor:
        """Where no attack of the evaluation won, bool [m]; where there was none, no short climb."""
        return self._held(self.flags) if self.flags else ~self.short.broken

    @cached_property
    def long(self) -> Path:
        """Both losses climbed in many steps from random corners, at what is `standing`."""
        climbs: list[Search] = [Climb(loss, LONG, self.batch, start="corner") for loss in (margin, tempered)]
        return self._among(self.standing, climbs, self.threat)

    @property
    def white(self) -> Mapping[str, Tensor]:
        """The flags of attacks by gradient."""
        other = {*self.gradient_free, "clean", "worst"}
        return {name: right for name, right in self.flags.items() if name not in other}

    @cached_property
    def left(self) -> Tensor:
        """Where no attack by gradient won, neither the evaluation's nor one made here, bool [m]."""
        return self._held(self.white) & ~self.short.broken & ~self.long.broken

    @cached_property
    def blind(self) -> Path:
        """What is done without gradients to what is `left`."""
        search = Blind(QUERIES, self.batch) if self.black_box is None else Ended(self.black_box, self.batch)
        return self._among(self.left, [search], self.threat)

    @property
    def large(self) -> Threat:
        """The threat at a radius where no network can be robust."""
        return enlarged(self.threat, self.x)

    @cached_property
    def growing(self) -> dict[float, Tensor]:
        """Radius -> where few steps up the margin break a point, bool [m]; radii double up to the large one."""
        climb, everyone = Climb(margin, SHORT, self.batch), self.right >= 0
        threats = [replace(self.large, eps=self.large.eps / part) for part in (8, 4, 2, 1)]
        return {threat.eps: self._among(everyone, [climb], threat).broken for threat in threats}

    def _among(self, chosen: Tensor, searches: list[Search], threat: Threat) -> Path:
        """What `searches` do to the `chosen` (bool [m]); the others stay unbroken."""
        none, index = Path(chosen & False, chosen & False, chosen | True), chosen.nonzero().squeeze(1)
        if len(index) == 0:
            return none
        points = self.right[index]
        found = together(searches, self.model, self.x[points], self.y[points], threat, self.noise.take(points))
        return Path(*(whole.index_copy(0, index, part) for whole, part in zip(none, found, strict=True)))

    def _held(self, flags: Mapping[str, Tensor]) -> Tensor:
        held = [right.to(self.x.device)[self.places[self.right]] for right in flags.values()]
        return torch.stack([self.right >= 0, *held]).all(0)
