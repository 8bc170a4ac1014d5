"""A network asked about images under noise, until what it answers proves a radius or none."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from harp.ambient import pinned
from harp.certify.bounds import Bets, bar, lower_bound, radius
from harp.certify.noise import drawn, noisy, slack
from harp.errors import HarpError
from harp.models import logits_of, placed
from harp.modes import evaluating

HELD = 2**29  # bytes of noise that are kept for the next image; what is more is drawn anew


@dataclass(frozen=True)
class Smoothing:
    """What is asked of a network about each image.

    `sigma`: the noise's deviation, in units of pixels in [0, 1]. `at`: the radius to be proved or not, in bets that end
    as soon as they can; None: the largest radius that all `samples` answers prove. Of either kind a proof is wrong with
    a chance of at most `alpha` an image. `first` answers, of other noise, choose the class.
    """

    sigma: float
    samples: int = 10_000
    alpha: float = 0.001
    first: int = 100
    at: float | None = None
    batch: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in (("samples", self.samples), ("first", self.first), ("batch", self.batch)):
            if value < 1:
                raise HarpError(f"{name} is {value}; expected at least 1")
        if not 0 < self.alpha < 1:
            raise HarpError(f"alpha is {self.alpha:g}; expected a chance above 0 and below 1")
        if self.at is not None and not 0 < self.at < 8 * self.sigma:
            raise HarpError(f"radius is {self.at:g}; expected above 0 and below 8 sigma, {8 * self.sigma:g}")


@dataclass(frozen=True)
class Certificate:
    """What was proved of one image: around it, up to `radius` in the 2-norm, the smoothed network answers `guess`.

    `right` of `n` answers under noise were `guess`. `radius` 0 proves nothing: the smoothed network abstains. Under
    bets it is the radius asked for, or 0; `decided` says whether one of them won before the answers ran out.
    """

    guess: int
    right: int
    n: int
    radius: float
    decided: bool = True

    def tree(self) -> dict[str, Any]:
        return asdict(self)


class Smoothed:
    """`model` under the noise of `smoothing`, for images uint8 [c, h, w].

    The noise of answer number i is the same for every image: each image's proof needs independent answers of its own,
    not of other images. Answers that are not finite are no class. A network answers in eval mode and where its weights
    are, another callable on the CPU.
    """

    def __init__(self, model: Callable[[Tensor], Any], smoothing: Smoothing):
        self.model, self.smoothing = model, smoothing
        self.device = placed(model) if isinstance(model, nn.Module) else torch.device("cpu")
        self._held: dict[tuple[str, int], Tensor] = {}

    @pinned()
    @torch.no_grad()
    def certify(self, image: Tensor) -> Certificate:
        """What the answers prove about the image; raises `HarpError` for one that is not uint8 [c, h, w]."""
        if image.dtype != torch.uint8 or image.ndim != 3:
            raise HarpError(
                f"the image is {image.dtype} {list(image.shape)}; expected uint8 [channels, height, width], for the "
                "proof is of noise in whole steps of 1/255"
            )
        with evaluating(self.model) if isinstance(self.model, nn.Module) else nullcontext():
            return self._certify(image)

    def _certify(self, image: Tensor) -> Certificate:
        asked = self.smoothing
        votes = numpy.concatenate(list(self._answers(image, "guess", asked.first)))
        counted = numpy.bincount(votes[votes >= 0], minlength=1)
        guess = int(counted.argmax())
        if not counted[guess]:
            return Certificate(-1, 0, 0, 0.0)
        return self._largest(image, guess) if asked.at is None else self._bet(image, guess, asked.at)

    def _largest(self, image: Tensor, guess: int) -> Certificate:
        asked = self.smoothing
        right = sum(int((votes == guess).sum()) for votes in self._answers(image, "count", asked.samples))
        bound = lower_bound(right, asked.samples, asked.alpha) - slack(asked.sigma, image.numel())
        proved = radius(bound, asked.sigma)
        return Certificate(guess, right, asked.samples, proved)

    def _bet(self, image: Tensor, guess: int, at: float) -> Certificate:
        asked = self.smoothing
        bets = Bets(bar(at, asked.sigma) + slack(asked.sigma, image.numel()), asked.alpha)
        for votes in self._answers(image, "count", asked.samples):
            bets.take(votes == guess)
            if bets.verdict is not None:
                break
        return Certificate(guess, bets.right, bets.n, at if bets.verdict else 0.0, bets.verdict is not None)

    def _answers(self, image: Tensor, what: str, count: int) -> Iterator[numpy.ndarray[Any, numpy.dtype[numpy.int64]]]:
        """Classes in turn, batch by batch; -1 where a logit is not finite."""
        for number, first in enumerate(range(0, count, self.smoothing.batch)):
            n = min(self.smoothing.batch, count - first)
            noise = self._noise(what, number, tuple(image.shape))[:n]
            logits = logits_of(self.model(noisy(image[None], noise, self.smoothing.sigma).to(self.device)))
            classes = torch.where(logits.isfinite().all(1), logits.argmax(1), -1)
            yield classes.cpu().numpy()

    def _noise(self, what: str, number: int, shape: tuple[int, ...]) -> Tensor:
        held = self._held.get((what, number))
        if held is None or tuple(held.shape[1:]) != shape:
            asked = self.smoothing
            held = drawn((asked.batch, *shape), asked.sigma, asked.seed, "certify", what, number)
            if (len(self._held) + 1) * held.numel() * held.element_size() <= HELD:
                self._held[what, number] = held
        return held
