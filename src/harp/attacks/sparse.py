"""AutoPGD's search for the 1-norm: sparse steps, from a larger ball to the ball itself (Croce & Hein, ICML 2021)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from harp.attacks.ascent import Ascent, checkpoints
from harp.attacks.sweep import State
from harp.threats import per_point, shrunk

# The radii of a run's stages in eps, and the shares of its steps; the last stage takes what the others leave.
RADII = (3.0, 2.0, 1.0)
SHARES = (0.3, 0.3)

# A step moves the pixels of the steepest slopes, two thirds as many as the best point has changed. Where that number
# fell by a twentieth the step is the radius again; else it is two thirds of what it was, down to a tenth of the radius.
LESS, FELL, SHORTEST = 1.5, 0.95, 0.1


@dataclass(frozen=True)
class Sparse(Ascent):
    """For norm 1: runs of stages in balls of 3, 2 and 1 eps, each from the best point of the one before.

    The multi-eps attack of "Mind the box" (Croce & Hein, ICML 2021), as AutoAttack uses it. What an earlier stage
    breaks lies outside the threat and is not found.
    """

    def plan(self) -> list[list[int]]:
        lengths = [math.ceil(share * self.steps) for share in SHARES]
        lengths.append(max(self.steps - sum(lengths), 0))
        return [checkpoints(length, 0.04, 0, 0.04) for length in lengths]

    def start(self, state: State) -> Tensor:
        x = state["x"]
        anywhere = x + self.noise(state).normal(x.shape[1:]).to(x)
        start = torch.where(per_point(self.stage(state) == 0, x), anywhere, state["best"])
        return self._projected(start, x, self._radius(state))

    def direction(self, grad: Tensor) -> Tensor:
        return grad.nan_to_num(0.0)

    def moved(self, state: State, at: Tensor, uphill: Tensor) -> Tensor:
        slopes = uphill.flatten(1).abs()
        some = slopes.shape[1] - ((1 - state["share"]) * slopes.shape[1]).long().clamp(0, slopes.shape[1] - 1)
        # As many as the point with most wants: soon few, and a third of the time that sorting all takes.
        least = slopes.topk(int(some.max())).values.gather(1, some[:, None] - 1)
        pixels = uphill.sign() * (slopes >= least).view_as(uphill)
        length = state["size"] / pixels.flatten(1).abs().sum(1).clamp(min=1)
        return self._projected(at + per_point(length, at) * pixels, state["x"], state["radius"])

    def fresh(self, state: State) -> State:
        changed, radius = _changed(state["adv"], state["x"]), self._radius(state)
        return {"radius": radius, "size": radius, "changed": changed, "share": self._share(changed, state["x"])}

    def adapted(self, state: State, loss: Tensor, lookback: Tensor) -> State:
        due, changed, radius = lookback > 0, _changed(state["best"], state["x"]), state["radius"]
        fell = changed < FELL * state["changed"]
        size = torch.where(fell, radius, torch.maximum(state["size"] / LESS, SHORTEST * radius))
        return {
            "size": torch.where(due, size, state["size"]),
            "share": torch.where(due, self._share(changed, state["x"]), state["share"]),
            "changed": torch.where(due, changed, state["changed"]),
            "jump": due & fell,
        }

    def _radius(self, state: State) -> Tensor:
        return self.threat.eps * state["x"].new_tensor(RADII)[self.stage(state)]

    def _share(self, changed: Tensor, x: Tensor) -> Tensor:
        return changed / x[0].numel() / LESS

    def _projected(self, adv: Tensor, x: Tensor, radius: Tensor) -> Tensor:
        low, high = self.threat.low, self.threat.high
        delta = shrunk(adv - x, torch.where(adv > x, high - x, x - low), radius[:, None])
        return (x + delta).clamp(low, high)


def _changed(adv: Tensor, x: Tensor) -> Tensor:
    """How many numbers of each image are others, [n].

    A number that a projection puts back is exactly the image's here. In the authors' program it may miss by one
    rounding, which counts as changed there: the one way in which their steps differ from these.
    """
    return (adv != x).flatten(1).sum(1).to(x.dtype)
