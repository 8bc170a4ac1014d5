"""Square: random search by the model's answers alone, which no masked gradient misleads."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harp.attacks.base import guarded
from harp.attacks.losses import margin, wrong
from harp.attacks.pgd import ATTACKS
from harp.attacks.sweep import State, sweep
from harp.attacks.windows import Bumps, Stripes, Windows
from harp.errors import HarpError
from harp.randomness import Keyed, Noise, given
from harp.threats import Threat, per_point

# After as many moves of a run windows take half the share of the image that they took before.
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


@dataclass(frozen=True)
class Square:
    """The first image found that the model gets wrong, by forward passes alone (Andriushchenko et al., ECCV 2020).

    A run begins at random stripes or bumps and keeps a random change of one square window wherever that lowers the
    margin of the right answer; `restarts` runs of `queries` forward passes each, the first image's included. `p_init`
    is the share of the image that a window takes at first, halved as in AutoAttack after 10, 50, 200, 500, 1000, 2000,
    4000, 6000 and 8000 moves. Norms inf and 2 as published, norm 1 as in Croce & Hein (ICML 2021). Unlike in the
    authors' code each point has windows and signs of its own and a window may touch the last row and column. `batch` is
    how many points are under way at once (None: all). Raises `HarpError` where images are not [n, c, h, w].
    """

    queries: int = 5000
    restarts: int = 1
    p_init: float = 0.8
    batch: int | None = None

    def __post_init__(self) -> None:
        if self.queries < 1 or self.restarts < 1:
            raise HarpError(f"square: expected at least 1 query and 1 restart, got {self.queries} and {self.restarts}")
        if not 0 < self.p_init <= 1:
            raise HarpError(f"square: expected p_init above 0 and at most 1, got {self.p_init}")

    def fits(self, x: Tensor, threat: Threat) -> None:
        """Raises `HarpError` for images that have no rows and columns."""
        if x.ndim != 4:
            raise HarpError(f"square: expected images [n, c, h, w], got {list(x.shape)}; pgd takes any shape")

    @guarded
    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, noise: Noise | None = None) -> Tensor:
        noise = given(noise, x)
        self.fits(x, threat)
        shares = [self.p_init / 2**halvings for halvings in range(len(HALVINGS) + 1)]
        windows = (Stripes if threat.norm == math.inf else Bumps)(threat, x, shares)
        search = _Search(self, model, windows, torch.tensor(HALVINGS, device=x.device))
        return sweep(search, model, x, y, noise, self.batch)


@dataclass(frozen=True)
class _Search:
    attack: Square
    model: nn.Module
    windows: Windows
    halvings: Tensor

    def begin(self, x: Tensor, y: Tensor, noise: Keyed) -> State:
        asked = torch.zeros(len(x), dtype=torch.long, device=x.device)
        return {"x": x, "y": y, "keys": noise.keys, "asked": asked, "best": x, "loss": x.new_zeros(len(x))}

    @torch.no_grad()
    def step(self, state: State) -> State:
        """One query a point: of its run's first image, or of a change of its best."""
        x, noise, asked = state["x"], Keyed(state["keys"]), state["asked"]
        query = asked % self.attack.queries
        share = (query[:, None] - 1 > self.halvings).sum(1)
        adv, first = self.windows.next(x, state["best"], share, noise.at(asked)), query == 0
        if first.any():
            # Negative names: those of the moves begin at 0.
            adv[first] = self.windows.first(x[first], noise.take(first).at(-1 - asked[first] // self.attack.queries))
        logits = self.model(adv)
        loss = margin(logits, state["y"])
        better = first | (loss > state["loss"])
        return {
            **state,
            "asked": asked + 1,
            "best": torch.where(per_point(better, x), adv, state["best"]),
            "loss": torch.where(better, loss, state["loss"]),
            "adv": adv,
            # A tie of logits is worth asking the judge about.
            "found": wrong(logits, state["y"]) | (loss >= 0),
            "spent": asked + 1 == self.attack.queries * self.attack.restarts,
        }


@ATTACKS.register("square")
def square(queries: int = 5000, restarts: int = 1, batch: int | None = None) -> Square:
    """Square: random search, forward passes alone, 5,000 queries (Andriushchenko et al., ECCV 2020)."""
    return Square(queries=queries, restarts=restarts, batch=batch)
