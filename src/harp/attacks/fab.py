"""FAB: the nearest adversarial images, found by steps between straightened class boundaries and the image."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harp.attacks.base import guarded
from harp.attacks.hyperplanes import length, straighten, towards
from harp.attacks.losses import wrong
from harp.attacks.nearest import pulled_back
from harp.attacks.pgd import ATTACKS
from harp.attacks.surrogate import judge
from harp.attacks.sweep import State, sweep
from harp.errors import HarpError
from harp.randomness import Keyed, Noise, given, normal, uniform
from harp.threats import Threat, per_point


@dataclass(frozen=True)
class FAB:
    """The fast adaptive boundary attack (Croce & Hein, ICML 2020, algorithm 1), which makes perturbations small.

    A step goes `eta` times the way to the nearest class boundary, as it would be were the logits linear, and a share of
    at most `alpha_max` of the way to that same boundary's point nearest the image; what is wrong there is moved back to
    `beta` of its distance. `targets`: the boundaries towards that many of the likeliest wrong classes, each in runs of
    its own; None: of all classes the nearest at each step, for a gradient a class. Of `restarts` runs of `steps` the
    first begins at the image, the others at random, half of eps (or of the distance found so far) away. `batch`: points
    under way at once; None: all. Raises `HarpError` for counts below 1 and for models of one class.
    """

    steps: int = 100
    restarts: int = 1
    targets: int | None = None
    alpha_max: float = 0.1
    eta: float = 1.05
    beta: float = 0.9
    batch: int | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "restarts", "targets", "batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise HarpError(f"fab, {name}: expected at least 1, got {value}")

    @guarded
    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, noise: Noise | None = None) -> Tensor:
        noise = given(noise, x)
        return sweep(_Walk(self, model, threat, threat.eps), model, x, y, noise, self.batch)

    @guarded
    def nearest(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, noise: Noise) -> tuple[Tensor, Tensor]:
        """The nearest adversarial images found, like `x`, and their distances [n]; where there is none, `x` and inf.

        Every run is made to its end; eps says no more than where restarts begin. As FAB alone ends half a per cent
        beyond a boundary, each image is then pulled straight back until it is about to turn right (the paper's final
        search, by halving). Robust accuracy at any eps is the share of distances above it. Images that are wrong as
        they are have distance 0.
        """
        adv = sweep(_Walk(self, model, threat, math.inf), model, x, y, noise, self.batch)
        return pulled_back(model, x, adv, y, threat, self.batch)


@dataclass(frozen=True)
class _Walk:
    """The nearest adversarial image no further away than `within`; any such image will do where that is finite.

    A point's state: `rivals` [n, r], its wrong classes, likeliest first; `run` and `taken`, the runs made and the steps
    of this one; `fallen`, how many of these ended in an adversarial point; `point`, where it is; `unchecked`, whether
    that may be adversarial, too; `adv` and `best`, the nearest adversarial image so far and its distance.
    """

    fab: FAB
    model: nn.Module
    threat: Threat
    within: float

    @torch.no_grad()
    def begin(self, x: Tensor, y: Tensor, noise: Keyed) -> State:
        logits = self.model(x)
        if logits.shape[1] < 2:
            raise HarpError("fab: expected a model of at least 2 classes, got 1")
        rivals = logits.scatter(1, y[:, None], -torch.inf).argsort(1, descending=True)[:, :-1][:, : self.fab.targets]
        count, no = torch.zeros_like(y), torch.zeros_like(y, dtype=torch.bool)
        state = {"x": x, "y": y, "keys": noise.keys, "rivals": rivals, "run": count, "taken": count, "fallen": count}
        state |= {"point": x, "unchecked": no, "adv": x, "best": x.new_full([len(x)], torch.inf)}
        return self._recorded(state, wrong(logits, y))

    @torch.no_grad()
    def step(self, state: State) -> State:
        """One query for logits and gradient, which serves as the check of the last step and the ground of the next.

        Where the check finds the point adversarial, that is recorded and the point moved back, and the gradient is
        wasted. So a new point is checked at once, by a query without one, where it is likely to be adversarial or
        gradients are many; and after a run's last step, since no query follows that.
        """
        aims = self._aims(state)
        logits, lead, w = straighten(self.model, state["point"], state["y"], aims, self.threat.norm)
        fell_before = state["unchecked"] & wrong(logits, state["y"])
        moves = ~fell_before
        point = torch.where(per_point(moves, state["x"]), self._moved(state, lead, w), state["point"])
        state = state | {"point": point, "taken": state["taken"] + moves, "fallen": state["fallen"] + fell_before}

        over = state["taken"] == self.fab.steps
        check = moves & (over | _likely_to_fall(state) | (aims.shape[1] > 1))
        fell_now = self._checked(state, check)
        state = state | {"unchecked": moves & ~check, "fallen": state["fallen"] + fell_now}
        state = self._recorded(state, fell_before | fell_now)
        return self._decided(self._restarted(state, over))

    def _aims(self, state: State) -> Tensor:
        """The classes whose boundaries count in each point's present run, [n, 1] or [n, classes - 1]."""
        if self.fab.targets is None:
            return state["rivals"]
        return state["rivals"].gather(1, state["run"][:, None] // self.fab.restarts)

    def _moved(self, state: State, lead: Tensor, w: Tensor) -> Tensor:
        """Each point one step on: between its own way to the boundary and the image's."""
        both = torch.stack([state["point"].flatten(1), state["x"].flatten(1)])
        delta = towards(both, w, -lead - ((both - both[0]) * w).sum(-1), self.threat)
        far = length(delta, self.threat.norm).clamp(min=1e-8)
        share = (far[0] / far.sum(0)).clamp(max=self.fab.alpha_max)
        # A point that is on its boundary but for rounding would stay there for good.
        share = torch.where(far[0] > 1e-5 * far[1], share, self.fab.alpha_max)[:, None]
        ends = both + self.fab.eta * delta
        return ends[0].lerp(ends[1], share).clamp(self.threat.low, self.threat.high).view_as(state["x"])

    def _checked(self, state: State, which: Tensor) -> Tensor:
        """Which of the points `which` (bool [n]) are wrong, bool [n]."""
        rows = which.nonzero().squeeze(1)
        if not len(rows):
            return which
        return which.index_put((rows,), wrong(self.model(state["point"][rows]), state["y"][rows]))

    def _recorded(self, state: State, fallen: Tensor) -> State:
        """The adversarial points `fallen` (bool [n]) kept where they are the nearest so far, and moved back."""
        if not fallen.any():
            return state
        x, point = state["x"], state["point"]
        distance = self.threat.distance(point, x)
        better = self._confirmed(state, fallen & (distance < state["best"]) & (distance <= self.within))
        return state | {
            "best": torch.where(better, distance, state["best"]),
            "adv": torch.where(per_point(better, x), point, state["adv"]),
            "point": torch.where(per_point(fallen, x), x + (point - x) * self.fab.beta, point),
        }

    def _confirmed(self, state: State, better: Tensor) -> Tensor:
        """Those of `better` that are wrong for the network whose answer counts, too."""
        network = judge(self.model)
        return better if network is self.model else _Walk(self.fab, network, self.threat, 0)._checked(state, better)

    def _restarted(self, state: State, over: Tensor) -> State:
        """The points whose run is `over` (bool [n]) where their next begins."""
        rows = over.nonzero().squeeze(1)
        if not len(rows):
            return state
        run = state["run"] + over
        point = state["point"].index_copy(0, rows, self._start(state, run, rows))
        fresh = {name: state[name].masked_fill(over, 0) for name in ("taken", "fallen")}
        return state | fresh | {"run": run, "point": point}

    def _start(self, state: State, run: Tensor, rows: Tensor) -> Tensor:
        x, noise = state["x"][rows], Keyed(state["keys"][rows]).at(run[rows])
        way = uniform(noise, x, -1, 1) if self.threat.norm == math.inf else normal(noise, x)
        far = state["best"][rows].clamp(max=self.threat.eps) / 2 * (run[rows] % self.fab.restarts > 0)
        start = x + way * per_point(far / self.threat.distance(way, torch.zeros_like(way)), x)
        return start.clamp(self.threat.low, self.threat.high)

    def _decided(self, state: State) -> State:
        runs = self.fab.restarts * (state["rivals"].shape[1] if self.fab.targets else 1)
        spent = (state["run"] == runs) | (state["best"] == 0)
        found = (state["best"] <= self.within) & (spent if math.isinf(self.within) else True)
        return state | {"found": found, "spent": spent}


def _likely_to_fall(state: State) -> Tensor:
    """Whether at least half of a run's steps before its latest ended in adversarial points, bool [n]."""
    before = state["taken"] - 1
    return 2 * state["fallen"] >= before


@ATTACKS.register("fab")
def fab(steps: int = 100, restarts: int = 5, batch: int | None = None) -> FAB:
    """FAB towards the nearest class, 100 steps, 5 restarts, as in AutoAttack plus (Croce & Hein, ICML 2020)."""
    return FAB(steps, restarts, batch=batch)


@ATTACKS.register("fab-t")
def fab_t(steps: int = 100, targets: int = 9, restarts: int = 1, batch: int | None = None) -> FAB:
    """FAB towards each of the 9 likeliest wrong classes, 100 steps, as in AutoAttack (Croce & Hein, ICML 2020)."""
    return FAB(steps, restarts, targets, batch=batch)
