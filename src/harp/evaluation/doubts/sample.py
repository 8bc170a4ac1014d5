"""The points a network is examined on, and what is measured of them only once."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from harp.attacks import Attack
from harp.attacks.losses import crossentropy, margin
from harp.evaluation.doubts.geometry import corners, enlarged
from harp.evaluation.doubts.probes import Blind, Climb, Ended, Path, Search, signs, slope, tempered, together
from harp.evaluation.doubts.transfer import Transferred
from harp.evaluation.expected import single
from harp.evaluation.steadiness import SAME, Untouched, apart, ask
from harp.randomness import Keyed
from harp.threats import Threat

# Gradients in a climb from the image, in one from a corner, and queries of a search without gradients.
SHORT, LONG, QUERIES = 20, 100, 200
REPEATS = 4
# Gradients that are averaged, and steps along them: together no more than a long climb.
AVERAGED, MEANS = 5, 20
# How far beyond eps, and how far before it, the curve of robust accuracy is looked at.
BEYOND = 1.25


@dataclass(frozen=True, eq=False)
class Sample:
    """n images with labels, the network in eval mode, a threat, and what an evaluation found.

    `flags`: measure -> bool [N], true where the network was right; `places` (int64 [n]) are the sample's rows in it.
    `gradient_free` names the attacks among them that use no gradient, `black_box` is one to run here in place of a
    search of random corners. m of the images are answered rightly, and only these are attacked. `untouched` is the
    network before anything was asked, `references` are others for the same task; `company`: an image alone is too few.
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
    untouched: Untouched
    references: Collection[nn.Module] = ()
    company: bool = False

    @cached_property
    def logits(self) -> Tensor:
        """Those of the clean images, [n, classes]."""
        return ask(self.model, self.x, self.batch)

    @cached_property
    def wavering(self) -> float:
        """By how much of their size a single answer's logits change when the same batches are asked again."""
        one = single(self.model)
        first = self.logits if one is self.model else ask(one, self.x, self.batch)
        return max(apart(ask(one, self.x, self.batch), first) for _ in range(REPEATS))

    @property
    def random(self) -> bool:
        """Whether that is more than rounding."""
        return self.wavering > SAME

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

    def started(self, chosen: Tensor) -> Tensor:
        """Random points of the ball around the `chosen` images (int64 [k]): some way towards a random corner."""
        x, noise = self.x[chosen], self.noise.take(chosen).at(1)
        way = signs(noise, x) * noise.at(1).uniform(x.shape[1:]).to(x)
        return corners(self.threat, x, way)

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

    @cached_property
    def averaged(self) -> Path:
        """A climb along mean gradients of the ball, at what is `left`."""
        climb = Climb(margin, MEANS, self.batch, start="corner", averaged=AVERAGED)
        return self._among(self.left, [climb], self.threat)

    @cached_property
    def transferred(self) -> Path:
        """Images made against the references alone, shown to the network at what is `left`."""
        searches: list[Search] = [
            Ended(Transferred(other, SHORT, batch=self.batch), self.batch) for other in self.references
        ]
        return self._among(self.left if searches else self.left & False, searches, self.threat)

    @cached_property
    def around(self) -> tuple[Tensor, Tensor, Tensor]:
        """Where few steps up the margin break a point just below eps, at it and just above, bool [m] each.

        What breaks nearer breaks further away, too.
        """
        climb, everyone = Climb(margin, SHORT, self.batch), self.right >= 0
        below, above = (
            self._among(everyone, [climb], replace(self.threat, eps=self.threat.eps * part)).broken
            for part in (1 / BEYOND, BEYOND)
        )
        at = below | self.short.broken
        return below, at, at | above

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
