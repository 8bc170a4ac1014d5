"""A training stage as a run would begin it, on the recipe's own network and images, to make a few steps of it."""

import time
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from harp.clock import Step
from harp.config import Planned, PruneSettings, plan, pruning, settings_of
from harp.data import subset
from harp.evaluation import correct
from harp.objectives import AWP, LEVEL
from harp.pipeline.workspace import Workspace
from harp.pruners import Masked, Moment, Pruner
from harp.sparsity import ChannelUnits, Units, allocation, allot, remove, top_mask
from harp.stages.methods import make_method, steps_needed
from harp.stages.training import VALIDATION_BATCH, optimizer_of
from harp.training import SCHEDULES, fit, steps_per_epoch
from harp.training.together import statistics


class Rehearsal:
    """One training stage. Its network has the weights it is built with, since what they are costs no time.

    What fine-tuning finds pruned is shared out evenly. `until` is how many optimizer steps the stage has.
    """

    def __init__(self, work: Workspace, stage: Planned):
        self.work, self.stage = work, stage
        self.settings = settings = settings_of(work.recipe, stage)
        self.data = work.batches(stage.name, settings.batch_size)
        self.objective = work.objective(settings, self.data, work.model)
        self.per_epoch = steps_per_epoch(self.data, self.objective)
        self.until = settings.epochs * self.per_epoch
        if isinstance(settings, PruneSettings):
            self.until = steps_needed(settings, self.per_epoch, work.recipe.seed)
        self.model, self.pruner = _network(work, stage, self.per_epoch)
        self.optimizer = optimizer_of(settings, self.model, self.pruner)
        self.made = 0

    def steps(self, count: int) -> list[float]:
        """Seconds of each but the first of so many further steps; the first stands for what a loop sets up."""
        settings, ends = self.settings, list[float]()

        def tell(moment: Moment) -> None:
            ends.append(now(self.work.device))

        fit(
            self.model,
            self.data,
            objective=self.objective,
            ascent=AWP(settings.awp, 0) if settings.awp else LEVEL,
            optimizer=self.optimizer,
            pruner=self.pruner,
            until=self.made + count,
            start=self.made,
            schedule=SCHEDULES[settings.schedule],
            precision=self.work.precision,
            clip=settings.clip,
            seed=self.work.recipe.seed,
            stage=self.stage.name,
            on=[tell],
        )
        self.made += len(ends)
        return [after - before for before, after in pairwise(ends)]

    @property
    def validations(self) -> int:
        """How often the stage measures its network."""
        if self.work.split.validation is None or self.settings.selection != "best":
            return 0
        every = Step.parse(self.settings.validate_every).steps(self.per_epoch)
        return -(-self.until // every)

    def validate(self) -> float:
        """Seconds that one look at the held-out images takes, by those of a single batch; two looks where one averages.

        Images by which batch norms are renewed are attacked, too, and count as held-out ones.
        """
        held = self.work.split.validation
        if held is None:
            return 0.0
        chosen = subset(held.labels, min(VALIDATION_BATCH, len(held)), 0)
        images = self.work.in_order(held.take(chosen), VALIDATION_BATCH)
        begun = now(self.work.device)
        for attack in (None, self.work.training_attack):
            correct(self.model, images.once(), attack, self.work.threat, 0, "probe")
        looked_at = len(held) + (min(len(held), len(self.work.split.train)) if self.pruner.hears_training else 0)
        looked_at += min(self.settings.renew_norms, self.data.steps_per_epoch) * self.settings.batch_size
        looks = 2 if self.settings.average else 1
        return (now(self.work.device) - begun) * looks * looked_at / len(chosen)

    @property
    def bytes(self) -> int:
        """What the stage's checkpoint takes on disk, and the best state beside it where one is kept."""
        model, pruner = _size(self.model.state_dict()), _size(self.pruner.state_dict())
        best = model + pruner if self.validations else 0
        if self.settings.average:
            best += sum(_size(param) for group in self.optimizer.param_groups for param in group["params"])
            best += sum(map(_size, statistics(self.model)))
        return model + pruner + best + _size(self.objective.state_dict()) + _size(self.optimizer.state_dict())


def now(device: torch.device) -> float:
    """Seconds by the clock, once the device has done what it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _network(work: Workspace, stage: Planned, per_epoch: int) -> tuple[nn.Module, Pruner]:
    model = work.model()
    if stage.kind == "pretrain":
        return model, Pruner(work.sites(model))
    cuts = [pruning(work.recipe, one) for one in plan(work.recipe.stages)[: stage.number] if one.kind == "prune"]
    tuned = (cuts or [work.recipe.prune])[-1]
    before = cuts[:-1] if stage.kind == "prune" else [one for one in cuts or [tuned] if one.granularity == "channels"]
    for settings in before:
        model = _without_channels(work, model, settings) if settings.granularity == "channels" else model
    if stage.kind == "prune":
        return model, make_method(work, tuned, work.units(model, tuned), per_epoch)
    if tuned.granularity == "channels":
        return model, Pruner(work.sites(model))
    units, masks = _cut(work, model, tuned)
    return model, Masked(units.sites, units.by_site(masks))


def _cut(work: Workspace, model: nn.Module, settings: PruneSettings) -> tuple[Units, dict[str, Tensor]]:
    """What a prune stage would mask of the network if all layers kept the same share."""
    units = work.units(model, settings)
    kept = allot(units, work.budget(settings, units), allocation("uniform", units))
    return units, {name: top_mask(values, kept[name]) for name, values in units.magnitudes().items()}


def _without_channels(work: Workspace, model: nn.Module, settings: PruneSettings) -> nn.Module:
    units, masks = _cut(work, model, settings)
    assert isinstance(units, ChannelUnits)
    return remove(model, units.groups, masks)


def _size(value: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in _tensors(value))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _tensors(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _tensors(inner)
