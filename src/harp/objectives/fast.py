"""Adversarial training with one gradient step, and a guard against its collapse."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from harp.attacks import PGD, Attack
from harp.modes import evaluating
from harp.objectives.base import OBJECTIVES, Closure, Objective
from harp.runs import Tree
from harp.threats import Threat


@OBJECTIVES.register("fast-at")
@dataclass
class FastAT(Objective):
    """The cross-entropy after one step of 1.25 eps from a random start (FGSM-RS, Fast-AT; Wong et al., ICLR 2020).

    Such training may collapse within an epoch: the model then answers single steps rightly and PGD never
    (catastrophic overfitting). Every `guard_every` batches the batch is also attacked by `guard`. The collapse is
    noted where of the f images right under FGSM-RS more than half fall to `guard`, by two standard deviations of as
    many coin tosses: f / 2 + sqrt(f). Labels are smoothed by `smoothing` in
    what is trained. Raises `ValueError` for `guard_every` below 1.
    """

    threat: Threat
    guard_every: int = 400
    guard: Attack = field(default_factory=PGD)
    smoothing: float = 0.0
    batches: int = field(default=0, init=False)
    collapses: list[list[int]] = field(default_factory=list, init=False)
    """[batch, images in it, right under FGSM-RS, right under `guard`, too] of every check that found the collapse."""

    def __post_init__(self) -> None:
        if self.guard_every < 1:
            raise ValueError(f"guard_every: expected at least 1, got {self.guard_every}")

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, noise: torch.Generator) -> Iterator[Closure]:
        adv = PGD(steps=1, step=1.25)(model, x, y, self.threat, noise)
        self.batches += 1
        if self.batches % self.guard_every == 0:
            # Only now: the noise of the guard comes after that of the training step, which it must not change.
            self._check(model, x, y, adv, self.guard(model, x, y, self.threat, noise))
        yield lambda: cross_entropy(model(adv), y, label_smoothing=self.smoothing)

    @torch.no_grad()
    def _check(self, model: nn.Module, x: Tensor, y: Tensor, adv: Tensor, stronger: Tensor) -> None:
        with evaluating(model):
            right = model(adv).argmax(1) == y
            held = right & (model(stronger).argmax(1) == y)
        f, g = int(right.sum()), int(held.sum())
        if f - g > f / 2 + f**0.5:
            self.collapses.append([self.batches, len(x), f, g])

    def notes(self) -> list[str]:
        if not self.collapses:
            return []
        batch, images, right, held = self.collapses[0]
        checks = self.batches // self.guard_every
        note = (
            f"catastrophic overfitting in {len(self.collapses)} of {checks} checks, first in number "
            f"{batch // self.guard_every}: of {images} training images {right} were right under FGSM-RS, and {held} of "
            "these under PGD, too; do not trust the last epoch, but one from before"
        )
        return [note]

    def state_dict(self) -> Tree:
        return {"batches": self.batches, "collapses": [list(found) for found in self.collapses]}

    def load_state_dict(self, state: Tree) -> None:
        self.batches, self.collapses = state["batches"], state["collapses"]
