"""Frozen weights under masks that keep the largest learned scores: what HYDRA and HARP share."""

import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from harp.ambient import pinned
from harp.config.values import Text
from harp.errors import HarpError
from harp.pruners.attached import Attached
from harp.pruners.base import METHODS, SearchWarning, like
from harp.pruners.method import Course, Moment, Options, Role
from harp.pruners.reparam import Reparam
from harp.pruners.straight_through import Estimator, top_share
from harp.runs import Tree
from harp.sparsity import Budget, Counts, Masks, Sites, Units, allocation, allot, top_mask, units_of


class Level:
    """Where scores stand while a step's gradient is taken: where they are. S2AP's `Uphill` moves them."""

    moves = False

    def begin(self, step: int) -> None:
        """Optimizer step `step`, from 0, is the next."""

    @contextmanager
    def around(self, pruner: "Scores", evaluate: Callable[[], Tensor]) -> Iterator[None]:
        """Around a step's evaluation, backward pass and pull; see `Pruner.around`."""
        yield

    def notes(self) -> list[str]:
        """What a reader of the results should know."""
        return []


class Scores(Reparam):
    """One learned score per unit; the weights themselves and the biases are frozen, normalisation layers train.

    Scores begin as sqrt(6 / fan_in) * weight / max |weight|, the sign kept (HYDRA, section 3); those of channels from
    the 2-norm of the weights that read the channel. `what` is pruned: sites, whose weights are the units, or units.
    """

    companions: Literal["all", "norms", "none"] = "norms"
    estimator: Estimator = "zero"
    standing: Level = Level()

    @pinned()
    def __init__(self, what: Sites | Units, budget: Budget):
        if not isinstance(budget, Budget):
            raise HarpError(f"budget: expected harp.Budget(keep), got {type(budget).__name__}")
        self.units = units_of(what)
        super().__init__(self.units.sites)
        self.budget = budget
        self.dense = {site.name: weight for site, weight in zip(self.sites, self._known[0], strict=True)}
        self.scores = {name: nn.Parameter(score) for name, score in self.units.first_scores().items()}
        # A frozen weight that was selected by name: its scores learn from its gradient, it itself does not train.
        self._frozen = [site.param.requires_grad_() for site in self.sites if not site.param.requires_grad]

    @abstractmethod
    def counts(self) -> Counts:
        """How many units each layer group keeps in the next forward pass."""

    @abstractmethod
    def settled_counts(self) -> Counts:
        """How many units each layer group keeps at the end; they meet the budget."""

    @abstractmethod
    def rates(self) -> Tensor:
        """The keep rate of each layer group, shape [groups]."""

    def trainables(self) -> dict[str, Role]:
        return {"scores": Role(list(self.scores.values()))}

    def weights(self) -> list[Tensor]:
        counts, rates = self.counts(), self.rates().unbind()
        masks = {
            name: top_share(score, rate, counts[name], self.estimator)
            for (name, score), rate in zip(self.scores.items(), rates, strict=True)
        }
        return self.units.effective(self.dense, masks)

    def push(self, moment: Moment) -> None:
        self.standing.begin(moment.step)
        super().push(moment)

    @contextmanager
    def around(self, evaluate: Callable[[], Tensor]) -> Iterator[None]:
        with self.standing.around(self, evaluate):
            yield

    def attach(self, optimizer: Optimizer, start: int = 0) -> Attached:
        if self.standing.moves:
            raise HarpError("scores that are moved need each batch's loss twice, which only harp.fit gives; use that")
        return super().attach(optimizer, start)

    def notes(self) -> list[str]:
        return self.standing.notes()

    @pinned()
    def settle(self) -> Masks:
        self.check_untouched(self.weights)
        for note in self.notes():
            warnings.warn(SearchWarning(note), stacklevel=3)
        masks = self._settle()
        for param in self._frozen:
            param.requires_grad_(False)
        return masks

    @contextmanager
    def settled(self) -> Iterator[None]:
        self.check_untouched(self.weights)
        with self.lent():
            self._settle()
            yield

    def _settle(self) -> Masks:
        counts = self.settled_counts()
        masks = Masks({name: top_mask(score.abs(), counts[name]) for name, score in self.scores.items()})
        # A product with a negative weight leaves -0; what is pruned is plain 0.
        self.write(
            [weight.masked_fill(weight == 0, 0) for weight in self.units.effective(self.dense, masks)], "settled"
        )
        return masks

    def state_dict(self) -> Tree:
        return {
            "dense": dict(self.dense),
            "scores": {name: score.detach() for name, score in self.scores.items()},
        }

    @torch.no_grad()
    def load_state_dict(self, state: Tree) -> None:
        dense, scores = like(self.dense, state["dense"]), like(self.scores, state["scores"])
        for name, weight in self.dense.items():
            weight.copy_(dense[name])
        for name, score in self.scores.items():
            score.copy_(scores[name])
        super().load_state_dict(state)
        self._known.append(list(self.dense.values()))


class ScoresOptions(Options):
    """What `scores-only` can be told."""

    start: Text = "uniform"
    """the keep rates: uniform, erk, lamp, ideal-gas, or a YAML or JSON file"""


@METHODS.register("scores-only")
class ScoresOnly(Scores):
    """Learned scores under fixed keep rates, shared out by `start`: HARP's ablation (section 4)."""

    takes: ClassVar[type[Options]] = ScoresOptions

    @pinned()
    def __init__(
        self, what: Sites | Units, budget: Budget, *, options: ScoresOptions | None = None, course: Course | None = None
    ):
        super().__init__(what, budget)
        start = (options or ScoresOptions()).start
        self._counts = allot(self.units, budget, allocation(start, self.units))

    def counts(self) -> Counts:
        return self._counts

    def settled_counts(self) -> Counts:
        return self._counts

    def rates(self) -> Tensor:
        shares = [self._counts[n] / s for n, s in zip(self.units.names, self.units.sizes, strict=True)]
        return torch.tensor(shares, dtype=torch.float32, device="cpu")
