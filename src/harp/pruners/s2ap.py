"""S2AP: scores learned where they stand worst nearby (score-space sharpness; arXiv 2510.18381)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import ConfigDict, model_validator
from torch import Tensor

from harp.config import make_settings
from harp.config.values import NonNegative, Text, Whole
from harp.errors import HarpError, choices
from harp.pruners.base import METHODS, Pruner, make_pruner
from harp.pruners.method import Course, Options
from harp.pruners.scores import Level, Scores
from harp.sparsity import Budget, Masks, Sites, Units


class S2APOptions(Options):
    """What `s2ap` can be told beside the options of its base."""

    model_config = ConfigDict(extra="allow")

    base: Text = "harp"
    """the method whose scores are moved; its own options are given beside these (`harp list methods NAME`)"""
    radius: NonNegative = 0.01
    """how far a layer's scores are moved, as a share of their norm: the paper's gamma; 0: nowhere"""
    warmup: Whole = 5
    """epochs before scores are moved"""

    @model_validator(mode="after")
    def _of_a_method_with_scores(self) -> "S2APOptions":
        if not _has_scores(METHODS[self.base]):
            known = (name for name in METHODS if _has_scores(METHODS[name]))
            raise HarpError(f"prune.options.base: {self.base} has no scores to move; {choices(self.base, known)}")
        self.of_base()
        return self

    def of_base(self) -> Options:
        """The options of the base; raises `HarpError` for one that neither has."""
        takes, given = METHODS[self.base].takes, self.model_extra or {}
        known = [*type(self).model_fields, *takes.model_fields]
        for name in given:
            if name not in known and takes.model_config.get("extra") != "allow":
                raise HarpError(f"no setting 'prune.options.{name}'; {choices(name, known)}")
        return make_settings(takes, given, "prune.options")

    def unused(self) -> dict[str, str]:
        idle = not self.radius and "warmup" in self.model_fields_set
        return {**self.of_base().unused(), **({"warmup": "radius is 0"} if idle else {})}


def _has_scores(method: object) -> bool:
    return isinstance(method, type) and issubclass(method, Scores)


class _S2AP:
    """S2AP: learns scores where moving them nearby would harm most, over any method of scores (arXiv 2510.18381).

    Each step, after the warm-up: with the batch's adversarial images as they are, the scores s of each layer move by
    z = radius |s| d / |d|, d the loss's gradient at s; masks, loss and gradient are taken at s + z; s is put back, bit
    for bit, and the optimizer's step goes from there. So it costs one more evaluation a step. What is made
    is the base's own pruner, its options beside those of S2AP, with scores that stand elsewhere.

    No value of the paper's gamma is to be had (METHODS 2.16 suggests to try .005 to .05). Departures: the paper also
    fine-tunes with AWP, which here is `finetune.awp` of every method alike; rates stay where they are. `attach` knows
    no evaluation that could be repeated, so it is refused. Raises `HarpError` for a base whose scores do not train,
    and without a `course`.
    """

    takes = S2APOptions

    def begins_with(self, options: Any) -> Literal["dense", "untrained"]:
        """The base's beginning."""
        return METHODS[options.base].begins_with(options.of_base())

    def steps(self, options: Any, course: Course) -> int:
        """The base's steps."""
        return METHODS[options.base].steps(options.of_base(), course)

    def tuned(self, options: S2APOptions) -> Callable[[Sites, Masks], Pruner] | None:
        return METHODS[options.base].tuned(options.of_base())

    def __call__(
        self,
        what: Sites | Units,
        budget: Budget,
        *,
        options: S2APOptions | None = None,
        course: Course | None = None,
    ) -> Scores:
        options = options or S2APOptions()
        if course is None:
            raise HarpError("s2ap warms up by epochs: it needs course=harp.Course(steps_per_epoch)")
        pruner = make_pruner(options.base, what, budget, options.of_base(), course)
        assert isinstance(pruner, Scores)
        if "scores" not in pruner.trainables():
            raise HarpError(f"s2ap moves scores that learn, and those of {options.base} do not; prune by another base")
        pruner.standing = Uphill(options.radius, options.warmup * course.steps_per_epoch, course.steps)
        return pruner


S2AP = METHODS.register("s2ap")(_S2AP())


@dataclass
class Uphill(Level):
    """Scores at s + z, z = `radius` |s| d / |d| for each group, d the loss's gradient at s, after `warmup` steps."""

    radius: float
    warmup: int
    steps: int | None = None
    step: int = 0

    moves = True

    def begin(self, step: int) -> None:
        self.step = step

    @contextmanager
    def around(self, pruner: Scores, evaluate: Callable[[], Tensor]) -> Iterator[None]:
        if self.step < self.warmup or not self.radius:
            yield
            return
        scores = list(pruner.scores.values())
        slopes = pruner.slopes(evaluate(), scores)
        before = [score.detach().clone() for score in scores]
        try:
            with torch.no_grad():
                for score, slope in zip(scores, slopes, strict=True):
                    score.add_(_move(score, slope, self.radius))
            with pruner.trying():
                yield
        finally:
            with torch.no_grad():
                for score, value in zip(scores, before, strict=True):
                    score.copy_(value)

    def notes(self) -> list[str]:
        if not self.radius or (self.steps is not None and self.warmup >= self.steps):
            return ["no score was ever moved: radius is 0, or the stage no longer than the warm-up"]
        return []


def _move(score: Tensor, slope: Tensor, radius: float) -> Tensor:
    # Scaled by the largest entry first: squares of tiny gradients would be 0 in float32.
    largest = slope.abs().amax()
    slope = slope / torch.where(largest > 0, largest, torch.ones_like(largest))
    length = torch.linalg.vector_norm(slope)
    moved: Tensor = slope * (radius * torch.linalg.vector_norm(score) / length.clamp(min=1))
    return moved
