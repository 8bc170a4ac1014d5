"""The one training loop."""

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypedDict, Unpack

import torch
from torch import Tensor, nn

from harp.ambient import pinned, usable
from harp.attacks import Attack
from harp.data import Batch, Batches, batches_of
from harp.errors import HarpError
from harp.models import opened, placed
from harp.modes import evaluating, set_mode
from harp.objectives import LEVEL, Ascent, Closure, Objective
from harp.pruners import Moment, Pruner, SearchWarning
from harp.pruners.gradients import check_gradients, clip_gradients
from harp.randomness import Portion, generator, seed_of
from harp.ranks import ALONE, Ranks, grouped
from harp.runs import digest
from harp.threats import Threat
from harp.training.batch import BatchCheck, enough_for_norms
from harp.training.optimizers import check_sites, set_lr
from harp.training.precision import FLOAT32, Precision
from harp.training.recomputing import recomputed
from harp.training.schedules import SCHEDULES, Schedule
from harp.training.together import averaged, statistics, synchronised
from harp.training.trial import trial


class FitOptions(TypedDict, total=False):
    """What `fit` may be told beside what it trains."""

    start: int
    """the optimizer step to go on from: 0"""
    ascent: Ascent
    """what moves weights uphill before the gradient is taken, such as `AWP`: nothing"""
    schedule: Schedule
    """course of the learning rate: a cosine"""
    precision: Precision
    """how it computes: float32"""
    seed: int
    """of every random draw: 0"""
    stage: str
    """names the random draws, and the stage in errors: "fit"""
    ranks: Ranks
    """the processes that train together, each on its part of every batch, all parts of one size: this one alone"""
    whole_norms: bool
    """of several ranks, whether batch norms see the whole batch: they do"""
    clip: float | None
    """largest norm of a step's gradient over all that trains, pruned weights aside: as it is"""
    on: Sequence[Callable[[Moment], None]]
    """called after every step, in order: nobody"""


@pinned()
def fit(
    model: nn.Module,
    data: Batches | Iterable[Batch],
    *,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    pruner: Pruner,
    until: int,
    **options: Unpack[FitOptions],
) -> None:
    """Trains `model` from optimizer step `start` to step `until`, or till the pruner is `done`.

    `data` are `Batches`, or what `Loader` takes; the other options are `FitOptions`. Answers of `model` that wrap their
    logits are opened (`logits_of`). Attack noise of a batch comes from (seed, stage, its first step), torch's global
    generator (dropout) from (seed, stage, step), so a resumed run repeats an uninterrupted one: also from within the
    replays of a batch, where `objective` has the state it had. Raises `HarpError` for batches, losses or gradients that
    are not finite, before a weight is touched, for labels that are no class of the model, and for a batch too small for
    its batch norms; callbacks never see such a step. Raises it, too, for a pruner of another network. Rates that have
    collapsed at the end are told by a `SearchWarning`.

    With `ranks` each process calls it with its own part of every batch and the same of all else; gradients, losses and
    running statistics are those of the whole batch, and so are random draws, dropout's aside. In a process group of
    several, `ranks` has to be said: `harp.of_group()`, or `harp.ALONE`.
    """
    if grouped() and "ranks" not in options:
        raise HarpError(
            "this process is one of several in a process group; say ranks=harp.of_group() to train one network "
            "together, each with its part of every batch, or ranks=harp.ALONE to train one alone"
        )
    data = batches_of(data, placed(model))
    check_sites(model, pruner)
    pruner.check_passes(objective.parts, options.get("precision", FLOAT32).recompute)
    loop = _Loop(model, objective, optimizer, pruner, until, steps_per_epoch(data, objective), **options)
    set_mode(loop.precision.lay_out(model), training=True)
    loop.ranks.same("the network", digest(model.state_dict()))
    pruner.push(Moment(loop.start, optimizer))
    if not loop.ended:
        with opened(model), loop.together(), recomputed(model, loop.precision.recompute):
            loop.run(data)
        for note in pruner.collapsed():
            warnings.warn(SearchWarning(note), stacklevel=3)


@dataclass
class _Loop:
    """The steps of one call of `fit`; `step` are done."""

    model: nn.Module
    objective: Objective
    optimizer: torch.optim.Optimizer
    pruner: Pruner
    until: int
    per_epoch: int
    start: int = 0
    ascent: Ascent = LEVEL
    schedule: Schedule = SCHEDULES["cosine"]
    precision: Precision = FLOAT32
    seed: int = 0
    stage: str = "fit"
    ranks: Ranks = ALONE
    whole_norms: bool = True
    clip: float | None = None
    on: Sequence[Callable[[Moment], None]] = ()

    def __post_init__(self) -> None:
        self.step, self.view = self.start, self.precision.view(self.model)

    @property
    def ended(self) -> bool:
        return self.step >= self.until or self.pruner.done

    @contextmanager
    def together(self) -> Iterator[None]:
        """What the gradients and the batch norms of several ranks need."""
        trained = (param for group in self.optimizer.param_groups for param in group["params"])
        parameters = averaged((*self.model.parameters(), *trained), self.ranks)
        with parameters, synchronised(self.model, self.ranks, self.whole_norms):
            yield

    def run(self, data: Batches) -> None:
        """Batch after batch, each for as many steps as the objective replays it."""
        check, replays = BatchCheck(self.model, self.stage), self.objective.replays
        for x, y in (map(usable, batch) for batch in data.after(self.step // replays)):
            with self.ranks.together():
                check(x, y, self.step)
            done = self.step % replays
            noise = self._noise(x, self.step - done)
            closures = self.objective(self.view, x, y, noise)
            for _ in range(done):
                next(closures)
            for _ in range(replays - done):
                self._make_step(closures, x)
                if self.ended:
                    return

    def _noise(self, x: Tensor, step: int) -> torch.Generator:
        """The attack noise of the batch whose first step it is: of several ranks the numbers of this one's part."""
        rank, size = self.ranks.part
        if size == 1:
            return generator(self.seed, self.stage, "attack", step, device=x.device)
        seed = seed_of(self.seed, self.stage, "attack", step)
        return Portion(x.device, seed, rank * len(x), size * len(x))

    def _make_step(self, closures: Iterator[Closure], x: Tensor) -> None:
        """One optimizer step, pulled before and pushed after, on the images `x`; then everyone who listens is told."""
        seed = seed_of(self.seed, self.stage, "model", self.step, *([self.ranks.rank] if self.ranks.rank else []))
        with _global_noise(seed, x.device), enough_for_norms(x, self.stage, self.step):
            evaluate = next(closures)
            set_lr(self.optimizer, self.schedule(self.step, self.until, self.per_epoch))
            self.model.zero_grad(set_to_none=True)
            self.optimizer.zero_grad(set_to_none=True)
            moved = self.ascent(self.model, evaluate, self.step, self.pruner.kept)
            with self.pruner.around(trial(self.model, evaluate)), moved:
                loss = evaluate()
                shown = self.ranks.mean(loss.detach())
                _check_loss(shown, self.stage, self.step)
                torch.autograd.backward(loss + self.pruner.penalty())
                self.pruner.pull()
            check_gradients(self.pruner, self.optimizer, self.step + 1)
            clip_gradients(self.optimizer, self.clip)
            self.optimizer.step()
            if not self.whole_norms:
                self.ranks.average(statistics(self.model))
            self.step += 1
            moment = Moment(self.step, self.optimizer, shown)
            self.pruner.push(moment)
            for callback in self.on:
                callback(moment)


def steps_per_epoch(data: Batches, objective: Objective) -> int:
    """How many optimizer steps one pass over the training images takes."""
    return data.steps_per_epoch * objective.replays


def losses(model: nn.Module, objective: Objective, data: Batches, seed: int, stage: str) -> Iterator[Closure]:
    """One pass over the images: the loss of each batch, to be called and differentiated; `model` is in eval mode.

    What an objective remembers from batch to batch stays as it was.
    """
    objective = copy.deepcopy(objective)
    with evaluating(model), opened(model):
        for step, (x, y) in zip(range(data.steps_per_epoch), map(_usable, data.after(0)), strict=False):
            yield next(iter(objective(model, x, y, generator(seed, stage, "scoring", step, device=x.device))))


def attacked(
    model: nn.Module, attack: Attack, threat: Threat, data: Batches, seed: int, stage: str, batches: int | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass over the images as `attack` leaves them, and their labels, by batch; `model` is in eval mode.

    Of the first so many `batches` alone, where that is said.
    """
    steps = data.steps_per_epoch if batches is None else min(batches, data.steps_per_epoch)
    with evaluating(model), opened(model):
        for step, (x, y) in zip(range(steps), map(_usable, data.after(0)), strict=False):
            yield attack(model, x, y, threat, generator(seed, stage, "scoring", step, device=x.device)), y


def _usable(batch: Batch) -> Batch:
    x, y = batch
    return usable(x), usable(y)


def _check_loss(loss: Tensor, stage: str, step: int) -> None:
    if not torch.isfinite(loss):
        value = float(loss.detach())
        raise HarpError(f"{stage}: the loss became {value} at step {step + 1}; a lower learning rate usually helps")


@contextmanager
def _global_noise(seed: int, device: torch.device) -> Iterator[None]:
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
