"""Adversarial training whose attack comes free of charge with the weights' own gradient."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from harp.objectives.base import OBJECTIVES, Closure, Objective
from harp.runs import Tree
from harp.threats import Threat


@OBJECTIVES.register("free-at")
@dataclass
class FreeAT(Objective):
    """The cross-entropy under noise that every backward pass also moves (Free-AT; Shafahi et al., NeurIPS 2019).

    Each batch is used for `replays` steps. The noise of position i in the batch is carried from step to step and from
    batch to batch, beginning at 0: after each backward pass it moves by eps along the gradient at the image, back into
    the ball (algorithm 1). One gradient a step serves the weights and the noise. Labels are smoothed by `smoothing`.
    """

    threat: Threat
    replays: int = 4
    smoothing: float = 0.0
    delta: Tensor | None = field(default=None, init=False, repr=False, compare=False)
    """The noise, shape [largest batch, ...]; None before the first batch."""

    moves_images: ClassVar[bool] = True
    takes_probabilities: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.replays < 1:
            raise ValueError(f"replays: expected at least 1, got {self.replays}")

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, noise: torch.Generator) -> Iterator[Closure]:
        delta = self._carried(x)
        for _ in range(self.replays):
            adv = self.threat.project(x + delta, x).requires_grad_()
            # As backward reaches the image, and not when the generator goes on: a checkpoint may lie between.
            adv.register_post_accumulate_grad_hook(self._move)  # type: ignore[no-untyped-call]
            yield lambda adv=adv: cross_entropy(model(adv), y, label_smoothing=self.smoothing)  # type: ignore[misc]

    @torch.no_grad()
    def _move(self, adv: Tensor) -> None:
        assert self.delta is not None
        assert adv.grad is not None
        delta = self.delta[: len(adv)]
        # The ball without the box of pixels: the noise of one image is the next one's start.
        ball = replace(self.threat, low=-math.inf, high=math.inf)
        moved = delta + self.threat.step(adv.grad, self.threat.eps)
        delta.copy_(ball.project(moved, torch.zeros_like(moved)))

    def _carried(self, x: Tensor) -> Tensor:
        """The noise for `x`, a part of `self.delta`, which grows where this batch is the largest so far."""
        if self.delta is None:
            self.delta = torch.zeros_like(x)
        self.delta = self.delta.to(x.device)  # a checkpoint's tensors are on the CPU
        if len(x) > len(self.delta):
            self.delta = torch.cat([self.delta, torch.zeros_like(x[len(self.delta) :])])
        return self.delta[: len(x)]

    def state_dict(self) -> Tree:
        return {} if self.delta is None else {"delta": self.delta}

    def load_state_dict(self, state: Tree) -> None:
        self.delta = state["delta"].clone() if "delta" in state else None
