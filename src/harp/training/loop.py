"""The one training loop."""

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

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
from harp.pruners.gradients import check_gradients
from harp.randomness import generator, seed_of
from harp.threats import Threat
from harp.training.batch import BatchCheck, enough_for_norms
from harp.training.optimisers import check_sites, set_lr
from harp.training.precision import FLOAT32, Precision
from harp.training.schedules import SCHEDULES, Schedule
from harp.training.trial import trial


@pinned()
def fit(
    model: nn.Module,
    data: Batches | Iterable[Batch],
    *,
    objective: Objective,
    optimiser: torch.optim.Optimizer,
    pruner: Pruner,
    until: int,
    start: int = 0,
    ascent: Ascent = LEVEL,
    schedule: Schedule = SCHEDULES["cosine"],
    precision: Precision = FLOAT32,
    seed: int = 0,
    stage: str = "fit",
    on: Sequence[Callable[[Moment], None]] = (),
) -> None:
    """Trains `model` from optimiser step `start` to step `until`, or till the pruner is `done`; `on` sees every step.

    `data` are `Batches`, or what `Loader` takes. Answers of `model` that wrap their logits are opened (`logits_of`).
    Attack noise of a batch comes from (seed, stage, its first step), torch's global generator (dropout) from (seed,
    stage, step), so a resumed run repeats an uninterrupted one: also from within the replays of a batch, where
    `objective` has the state it had. Raises `HarpError` for batches, losses or gradients that are not finite, before a
    weight is touched, for labels that are no class of the model, and for a batch too small for its batch norms;
    callbacks never see such a step. Raises it, too, for a pruner of another network. Rates that have collapsed at the
    end are told by a `SearchWarning`.
    """
    data = batches_of(data, placed(model))
    check_sites(model, pruner)
    set_mode(precision.lay_out(model), training=True)
    view = precision.view(model)
    pruner.push(Moment(start, optimiser))
    step, per_epoch, replays = start, steps_per_epoch(data, objective), objective.replays
    if step >= until or pruner.done:
        return
    check = BatchCheck(model, stage)
    with opened(model):
        for x, y in (map(usable, batch) for batch in data.after(step // replays)):
            check(x, y, step)
            done = step % replays
            closures = objective(view, x, y, generator(seed, stage, "attack", step - done, device=x.device))
            for _ in range(done):
                next(closures)
            for _ in range(min(replays - done, until - step)):
                with _global_noise(seed_of(seed, stage, "model", step), x.device), enough_for_norms(x, stage, step):
                    evaluate = next(closures)
                    set_lr(optimiser, schedule(step, until, per_epoch))
                    model.zero_grad(set_to_none=True)
                    optimiser.zero_grad(set_to_none=True)
                    with pruner.around(trial(model, evaluate)), ascent(model, evaluate, step, pruner.kept):
                        loss = evaluate()
                        _check_loss(loss, stage, step)
                        torch.autograd.backward(loss + pruner.penalty())
                        pruner.pull()
                    check_gradients(pruner, optimiser, step + 1)
                    optimiser.step()
                    step += 1
                    moment = Moment(step, optimiser, loss.detach())
                    pruner.push(moment)
                    for callback in on:
                        callback(moment)
                    if pruner.done:
                        break
            if step >= until or pruner.done:
                break
    for note in pruner.collapsed():
        warnings.warn(SearchWarning(note), stacklevel=3)


def steps_per_epoch(data: Batches, objective: Objective) -> int:
    """How many optimiser steps one pass over the training images takes."""
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
    model: nn.Module, attack: Attack, threat: Threat, data: Batches, seed: int, stage: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass over the images as `attack` leaves them, and their labels, by batch; `model` is in eval mode."""
    with evaluating(model), opened(model):
        for step, (x, y) in zip(range(data.steps_per_epoch), map(_usable, data.after(0)), strict=False):
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
