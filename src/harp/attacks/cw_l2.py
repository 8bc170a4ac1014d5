"""C&W's attack for the 2-norm: the nearest adversarial image, by Adam in a space without edges."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harp.attacks.base import guarded
from harp.attacks.losses import gradient, margin, wrong
from harp.attacks.pgd import ATTACKS
from harp.attacks.surrogate import judge
from harp.attacks.sweep import State, sweep
from harp.errors import HarpError
from harp.modes import evaluating
from harp.randomness import Keyed, Noise, given, per_image
from harp.threats import Threat, per_point

# Adam's own (Kingma & Ba, ICLR 2015), which the authors of the attack left as they were.
DECAY, SQUARE_DECAY, TINY = 0.9, 0.999, 1e-8
# A pixel at the box's edge would lie at infinity; this share of the way it lies at 7.3, where tanh still has a slope.
INSIDE = 1 - 1e-6


@dataclass(frozen=True)
class CWL2:
    """The first image found within eps that the model gets wrong (Carlini & Wagner, S&P 2017, section VI.A).

    Adam minimises ||x' - x||^2 + c max(z_y - max_{j != y} z_j, -confidence) over w, where x' is (tanh(w) + 1) / 2
    stretched to the threat's box: `steps` steps from the image itself, in each of `searches` runs. These look for the
    smallest c that succeeds: ten times the last until one does, then halfway between the largest that failed and the
    smallest that did not. `abort_early` ends a run whose objective fell by less than 1e-4 of itself in a tenth of the
    steps. A point leaves at the first image within eps; `nearest` goes on to the end. The noise is not used. `batch` is
    how many points are under way at once (None: all). Raises `HarpError` for a norm other than 2.
    """

    steps: int = 1000
    searches: int = 9
    lr: float = 0.01
    c: float = 1e-3
    confidence: float = 0.0
    abort_early: bool = True
    batch: int | None = None

    def __post_init__(self) -> None:
        if self.steps < 1 or self.searches < 1:
            raise HarpError(f"cw-l2: expected at least 1 step and 1 search, got {self.steps} and {self.searches}")

    def fits(self, x: Tensor, threat: Threat) -> None:
        """Raises `HarpError` for a norm other than 2."""
        if threat.norm != 2:
            raise HarpError(f"cw-l2: expected norm 2, got {threat.norm:g}; for others there are apgd, fab, square")

    @guarded
    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, noise: Noise | None = None) -> Tensor:
        noise = given(noise, x)
        self.fits(x, threat)
        return sweep(_Descent(self, model, threat), model, x, y, noise, self.batch)

    @guarded
    def nearest(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, noise: Noise) -> tuple[Tensor, Tensor]:
        """The nearest image found that the model gets wrong, and its distance [n], whatever the threat's eps.

        The image itself and infinity where nothing was found, itself and 0 where it is wrong already. A distance from
        the boundary that the descent ends at is right to 1e-3 on linear models. Of a `Surrogate` the original is
        attacked: where the boundary lies is the question, and the copy's lies a little elsewhere.
        """
        self.fits(x, threat)
        model, size = judge(model), self.batch or max(1, len(x))
        with evaluating(model), torch.no_grad():
            parts = zip(torch.split(x, size), torch.split(y, size), strict=True)
            right = ~torch.cat([wrong(model(images), labels) for images, labels in parts])
        adv, descent = x.clone(), _Descent(self, model, threat, to_the_end=True)
        adv[right] = sweep(descent, model, x[right], y[right], per_image(noise, len(x)).take(right), self.batch)
        distance = threat.distance(adv, x)
        return adv, torch.where(right & (distance == 0), torch.inf, distance)


@dataclass(frozen=True)
class _Descent:
    """Each point's `w`, Adam's moments and the steps of this run; its `c`, bounds and the runs over; its nearest."""

    attack: CWL2
    model: nn.Module
    threat: Threat
    to_the_end: bool = False

    @property
    def _half(self) -> float:
        return (self.threat.high - self.threat.low) / 2

    @property
    def _middle(self) -> float:
        return (self.threat.high + self.threat.low) / 2

    def begin(self, x: Tensor, y: Tensor, noise: Keyed) -> State:
        zero, none = x.new_zeros(len(x)), x.new_full([len(x)], torch.inf)
        search = {"c": zero + self.attack.c, "failed": zero, "worked": none, "runs": torch.zeros_like(y)}
        return {"x": x, "y": y, **search, "nearest": x, "distance": none, **self._start(x)}

    @torch.no_grad()
    def step(self, state: State) -> State:
        adv, slope = self._image(state["w"])
        missing, rise, hit = self._ask(adv, state["y"])
        distance = self.threat.distance(adv, state["x"])
        grad = slope * (2 * (adv - state["x"]) - per_point(state["c"], adv) * rise)
        state = {**state, **self._adam(state, grad), "hit": state["hit"] | hit}
        nearer = hit & (distance < state["distance"])
        state["nearest"] = torch.where(per_point(nearer, adv), adv, state["nearest"])
        state["distance"] = torch.where(nearer, distance, state["distance"])
        state = self._next_run(state, distance**2 + state["c"] * missing)
        spent = state["runs"] == self.attack.searches
        if self.to_the_end:
            return {**state, "adv": state["nearest"], "found": spent & state["distance"].isfinite(), "spent": spent}
        return {**state, "adv": adv, "found": hit & (distance <= self.threat.eps), "spent": spent}

    def _image(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """The images at `w` and their derivative."""
        bent = w.tanh()
        image = self._middle + self._half * bent
        return image.clamp(self.threat.low, self.threat.high), self._half * (1 - bent**2)

    def _start(self, x: Tensor) -> State:
        """A run's first step, at the images themselves."""
        w, zero = (INSIDE * (x - self._middle) / self._half).atanh(), torch.zeros_like(x)
        taken = torch.zeros(len(x), dtype=torch.long, device=x.device)
        checked = x.new_full([len(x)], torch.inf)
        return {"w": w, "mean": zero, "square": zero, "taken": taken, "checked": checked, "hit": taken != 0}

    def _ask(self, adv: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """How much margin is missing [n], the gradient of the margin (0 where none is), and where none is."""
        adv = adv.detach().requires_grad_()
        with torch.enable_grad():
            logits = self.model(adv)
            loss = margin(logits, y)
            rise = gradient(loss.sum(), adv)
        hit = self._hit(logits.detach(), y)
        # Not a product with 0: where logits are not finite neither is the gradient.
        rise = torch.where(per_point(hit, rise), 0, rise)
        return (self.attack.confidence - loss.detach()).clamp(min=0), rise, hit

    def _hit(self, logits: Tensor, y: Tensor) -> Tensor:
        """Wrong by the confidence: wrong though the right logit be raised by as much."""
        handicap = logits.new_full([len(y), 1], self.attack.confidence)
        return wrong(logits.scatter_add(1, y[:, None], handicap), y)

    def _adam(self, state: State, grad: Tensor) -> State:
        mean = DECAY * state["mean"] + (1 - DECAY) * grad
        square = SQUARE_DECAY * state["square"] + (1 - SQUARE_DECAY) * grad**2
        taken = state["taken"] + 1
        first, second = (per_point(1 - decay ** taken.to(grad), grad) for decay in (DECAY, SQUARE_DECAY))
        w = state["w"] - self.attack.lr * (mean / first) / ((square / second).sqrt() + TINY)
        return {"w": w, "mean": mean, "square": square, "taken": taken}

    def _next_run(self, state: State, objective: Tensor) -> State:
        """Points whose run is over at the next `c`, back at their images; the others as they are."""
        over = state["taken"] == self.attack.steps
        if self.attack.abort_early:
            due = state["taken"] % max(1, self.attack.steps // 10) == 0
            over = over | (due & (objective > 0.9999 * state["checked"]))
            state = {**state, "checked": torch.where(due, objective, state["checked"])}
        if not over.any():
            return state
        failed = torch.where(over & ~state["hit"], state["c"], state["failed"])
        worked = torch.where(over & state["hit"], state["c"], state["worked"])
        c = torch.where(worked.isfinite(), (failed + worked) / 2, 10 * state["c"])
        start = self._start(state["x"])
        again = {name: torch.where(per_point(over, value), value, state[name]) for name, value in start.items()}
        search = {"failed": failed, "worked": worked, "c": torch.where(over, c, state["c"])}
        return {**state, **again, **search, "runs": state["runs"] + over}


@ATTACKS.register("cw-l2")
def cw_l2(searches: int = 9, batch: int | None = None) -> CWL2:
    """C&W's attack for the 2-norm, 9 searches for c of 1,000 Adam steps each (S&P 2017)."""
    return CWL2(searches=searches, batch=batch)
