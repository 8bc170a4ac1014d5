"""FMN: the nearest adversarial images, by steps of the gradient in a ball that grows and shrinks about the boundary."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harp.attacks.base import guarded
from harp.attacks.hyperplanes import DUAL, length
from harp.attacks.losses import gradient, margin, wrong
from harp.attacks.nearest import pulled_back
from harp.attacks.pgd import ATTACKS
from harp.attacks.surrogate import judge
from harp.attacks.sweep import State, sweep
from harp.errors import HarpError
from harp.randomness import Keyed, Noise, given
from harp.threats import Threat, per_point, shrunk

# What a run's last step moves, and by which share the ball's radius changes at first and at last, as in the authors'
# program.
LAST_STEP, FIRST_SHARE, LAST_SHARE = 0.01, 0.05, 0.001


@dataclass(frozen=True)
class FMN:
    """The fast minimum-norm attack (Pintor et al., NeurIPS 2021, algorithm 1), untargeted, from the image itself.

    Each of `steps` steps goes uphill on the margin by a 2-norm that falls by a cosine from `step` to a hundredth of it,
    and back into a ball about the image. Its radius is the distance at which the boundary looks, and a share more,
    until that was crossed; then it grows by the share where the point is right and shrinks by it where it is wrong.
    Norms inf, 2 and 1. Draws no random numbers. `batch`: points under way at once; None: all. Raises `HarpError` for
    counts below 1 and a step that is not above 0.
    """

    steps: int = 100
    step: float = 1.0
    batch: int | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise HarpError(f"fmn, {name}: expected at least 1, got {value}")
        if not 0 < self.step < math.inf:
            raise HarpError(f"fmn, step: expected a finite number above 0, got {self.step}")

    @guarded
    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, noise: Noise | None = None) -> Tensor:
        return sweep(_Search(self, model, threat, threat.eps), model, x, y, given(noise, x), self.batch)

    @guarded
    def nearest(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, noise: Noise) -> tuple[Tensor, Tensor]:
        """The nearest adversarial images found, like `x`, and their distances [n]; where there is none, `x` and inf.

        Every run is made to its end, whatever eps is, and what was found is pulled straight back until it is about to
        turn right. Images that are wrong as they are have distance 0.
        """
        adv = sweep(_Search(self, model, threat, math.inf), model, x, y, noise, self.batch)
        return pulled_back(model, x, adv, y, threat, self.batch)


@dataclass(frozen=True)
class _Search:
    """The nearest adversarial image no further away than `within`; any such image will do where that is finite.

    A point's state: `taken`, its steps so far; `point`, where it is, and `radius`, of the ball it was put into;
    `crossed`, whether it ever was wrong; `adv` and `best`, the nearest adversarial image so far and its distance.
    """

    fmn: FMN
    model: nn.Module
    threat: Threat
    within: float

    def begin(self, x: Tensor, y: Tensor, noise: Keyed) -> State:
        none = x.new_full([len(x)], torch.inf)
        state = {"x": x, "y": y, "taken": torch.zeros_like(y), "point": x, "radius": none, "adv": x, "best": none}
        return state | {"crossed": torch.zeros_like(y, dtype=torch.bool)}

    def step(self, state: State) -> State:
        """One query for verdict and gradient, which serves as the check of the last step and the ground of the next."""
        bad, lead, grad = self._asked(state["point"], state["y"])
        distance = self.threat.distance(state["point"], state["x"])
        better = self._confirmed(state, bad & (distance < state["best"]) & (distance <= self.within))
        best = torch.where(better, distance, state["best"])
        adv = torch.where(per_point(better, state["x"]), state["point"], state["adv"])
        state = state | {"adv": adv, "best": best, "crossed": state["crossed"] | bad}

        size, share = self._sizes(state["taken"].to(grad))
        radius = self._radius(state, bad, distance, lead, grad, share)
        point = self._moved(state, grad, size, radius)
        taken = state["taken"] + 1
        spent = (taken == self.fmn.steps) | (best == 0)
        found = (best <= self.within) & (spent if math.isinf(self.within) else True)
        return state | {"point": point, "radius": radius, "taken": taken, "found": found, "spent": spent}

    def _asked(self, point: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Verdicts, margins, and the gradients of these; what is not finite counts as 0."""
        probe = point.detach().requires_grad_()
        with torch.enable_grad():
            logits = self.model(probe)
            lead = margin(logits, y)
            total = lead.sum()
        grad = gradient(total, probe).contiguous().nan_to_num(0, 0, 0)
        return wrong(logits.detach(), y), lead.detach().nan_to_num(0, 0, 0).to(point.dtype), grad

    def _sizes(self, taken: Tensor) -> tuple[Tensor, Tensor]:
        """How far the step of each point goes, and by which share its radius changes, both [n]."""
        left = (1 + torch.cos(math.pi * taken / self.fmn.steps)) / 2
        size = self.fmn.step * (LAST_STEP + (1 - LAST_STEP) * left)
        return size, LAST_SHARE + (FIRST_SHARE - LAST_SHARE) * left

    def _radius(self, state: State, bad: Tensor, distance: Tensor, lead: Tensor, grad: Tensor, share: Tensor) -> Tensor:
        # Scaled first: in float32 the square of 1e-25 is 0.
        flat = grad.flatten(1)
        size = length(flat, math.inf).clamp(min=1e-30)
        ahead = lead.abs() / size / length(flat / size[:, None], DUAL[self.threat.norm])
        # The paper's radius before a crossing is where the boundary looks: on a straight one its points stay for good.
        outside = torch.where(state["crossed"], state["radius"], distance + ahead) * (1 + share)
        radius = torch.where(bad, torch.minimum(state["radius"] * (1 - share), state["best"]), outside)
        x = state["x"]
        corner = torch.where(x - self.threat.low > self.threat.high - x, self.threat.low, self.threat.high)
        return radius.nan_to_num(torch.inf).minimum(self.threat.distance(corner.to(x), x)).to(x.dtype)

    def _moved(self, state: State, grad: Tensor, size: Tensor, radius: Tensor) -> Tensor:
        """Each point a step of the 2-norm `size` uphill, then in the ball of its radius, then in the box."""
        x, flat = state["x"], grad.flatten(1)
        flat = flat / length(flat, math.inf).clamp(min=1e-30)[:, None]
        flat = flat * (size / length(flat, 2).clamp(min=1e-12))[:, None]
        delta, radius = (state["point"] - x).flatten(1) + flat, radius[:, None]
        if self.threat.norm == math.inf:
            delta = delta.maximum(-radius).minimum(radius)
        elif self.threat.norm == 2:
            delta = delta * (radius / length(delta, 2)[:, None].clamp(min=1e-12)).clamp(max=1)
        else:
            delta = shrunk(delta, torch.full_like(delta, torch.inf), radius)
        return (x + delta.view_as(x)).clamp(self.threat.low, self.threat.high)

    def _confirmed(self, state: State, better: Tensor) -> Tensor:
        """Those of `better` that are wrong for the network whose answer counts, too."""
        network, rows = judge(self.model), better.nonzero().squeeze(1)
        if network is self.model or not len(rows):
            return better
        with torch.no_grad():
            return better.index_put((rows,), wrong(network(state["point"][rows]), state["y"][rows]))


@ATTACKS.register("fmn")
def fmn(steps: int = 100, batch: int | None = None) -> FMN:
    """The fast minimum-norm attack, 100 steps (Pintor et al., NeurIPS 2021)."""
    return FMN(steps, batch=batch)
