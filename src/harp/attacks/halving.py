"""AutoPGD's search for norms inf and 2: a step that halves where the loss stalls (Croce & Hein, ICML 2020)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from harp.attacks.ascent import Ascent, checkpoints
from harp.attacks.sweep import State
from harp.threats import per_point

MOMENTUM = 0.75


@dataclass(frozen=True)
class Halving(Ascent):
    """For norms inf and 2: steps with momentum, from 2 eps on halved where too few of them raised the loss.

    The algorithm of Croce & Hein (ICML 2020, algorithm 1), with `rho` the share that is enough.
    """

    rho: float = 0.75

    def plan(self) -> list[list[int]]:
        return [checkpoints(self.steps, 0.22, 0.03, 0.06)]

    def start(self, state: State) -> Tensor:
        x, noise = state["x"], self.noise(state)
        flat = self.threat.norm == math.inf
        delta = (noise.uniform(x.shape[1:], -1, 1) if flat else noise.normal(x.shape[1:])).to(x)
        length = self.threat.distance(delta, torch.zeros_like(delta))
        return (x + delta * per_point(self.threat.eps / length, x)).clamp(self.threat.low, self.threat.high)

    def constants(self, x: Tensor) -> State:
        # Ball and box together: a projection is then one pass over the images instead of four.
        if self.threat.norm == 2:
            return {}
        eps, low, high = self.threat.eps, self.threat.low, self.threat.high
        return {"floor": (x - eps).clamp(min=low), "ceiling": (x + eps).clamp(max=high)}

    def direction(self, grad: Tensor) -> Tensor:
        # sign() of what is not a number is 0.
        return grad.sign() if self.threat.norm == math.inf else self.threat.step(grad.nan_to_num(0.0), 1.0)

    def moved(self, state: State, at: Tensor, uphill: Tensor) -> Tensor:
        ahead = self._projected(torch.addcmul(at, per_point(state["size"], at), uphill), state)
        # The first step has no momentum.
        share = (state["taken"] == 0).to(at.dtype) * (1 - MOMENTUM) + MOMENTUM
        mixed = torch.lerp(at, ahead, per_point(share, at)).add_(at - state["old"], alpha=1 - MOMENTUM)
        return self._projected(mixed, state)

    def fresh(self, state: State) -> State:
        loss, size = state["best_loss"], 2 * self.threat.eps
        return {
            "loss": -loss,  # no first loss is a rise
            "rises": torch.zeros_like(state["stage"]),
            "size": torch.full_like(loss, size),
            "halved": torch.ones_like(state["jump"]),
            "checked": loss,
        }

    def adapted(self, state: State, loss: Tensor, lookback: Tensor) -> State:
        # The first step's loss is held against the start's, as in the paper; the authors' program compares it with 0.
        rises, best = state["rises"] + (loss > state["loss"]), state["best_loss"]
        due, stuck = lookback > 0, ~state["halved"] & (state["checked"] >= best)
        halve = due & (stuck | (rises <= self.rho * lookback))
        return {
            "loss": loss,
            "rises": rises * ~due,
            "size": torch.where(halve, state["size"] / 2, state["size"]),
            "halved": torch.where(due, halve, state["halved"]),
            "checked": torch.where(due, best, state["checked"]),
            "jump": halve,
        }

    def _projected(self, adv: Tensor, state: State) -> Tensor:
        if self.threat.norm == math.inf:
            return adv.clamp(state["floor"], state["ceiling"])
        return self.threat.project(adv, state["x"])
