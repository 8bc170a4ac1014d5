"""Training for one call: a search or fine-tuning, resumed where a checkpoint lies."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from harp.attacks import PGD
from harp.config import Recipe, TrainingSettings
from harp.copies import copied
from harp.data import Batch, Batches
from harp.evaluation import correct
from harp.models import classes_of, logits_of, plain
from harp.modes import evaluating
from harp.objectives import Objective
from harp.pipeline.display import Display
from harp.pipeline.objectives import make_objective
from harp.pruners import Moment, Pruner, Scoring, SearchWarning
from harp.pruning.images import InOrder
from harp.stages.training import optimizer_of
from harp.threats import Threat
from harp.training import SCHEDULES, Tracker, attacked, fit, losses, steps_per_epoch
from harp.wrappers import unwrapped


@dataclass
class Training:
    """A network that somebody gave, its images, and a recipe of what is to be done, in a folder."""

    recipe: Recipe
    given: nn.Module
    data: Batches
    test: InOrder
    held: InOrder | None
    folder: Path
    display: Display

    def __post_init__(self) -> None:
        self.dense = copied(plain(unwrapped(self.given))).eval()

    @property
    def threat(self) -> Threat:
        return Threat(self.recipe.threat.order, self.recipe.threat.eps)

    @property
    def attack(self) -> PGD:
        """What is trained against, and what selects an epoch."""
        return PGD(**self.recipe.attack.model_dump())

    @cached_property
    def first(self) -> Tensor:
        """The first test batch's images."""
        x, _ = next(self.test.once())
        return x

    @cached_property
    def classes(self) -> int:
        with evaluating(self.dense), torch.no_grad():
            return classes_of(logits_of(self.dense(self.first[:1])), 1)

    def objective(self, settings: TrainingSettings) -> Objective:
        return make_objective(
            settings,
            self.attack,
            self.threat,
            per_epoch=self.data.steps_per_epoch,
            classes=self.classes,
            teacher=lambda: self.dense,
        )

    def train(
        self,
        stage: str,
        settings: TrainingSettings,
        model: nn.Module,
        pruner: Pruner,
        objective: Objective,
        until: int,
    ) -> None:
        """Trains, from a checkpoint where one lies, and leaves the epoch that was selected."""
        optimizer, per_epoch = optimizer_of(settings, model, pruner), steps_per_epoch(self.data, objective)
        tracker = Tracker(
            self.folder / stage,
            model,
            pruner,
            optimizer,
            objective=objective,
            per_epoch=per_epoch,
            until=until,
            every=per_epoch,
            checkpoint=per_epoch,
            validate=self._validator(stage, pruner),
        )
        start, seed = tracker.resume(), self.recipe.seed
        if not start:
            pruner.prepare(
                Scoring(
                    model,
                    lambda: losses(model, objective, self.data, seed, stage),
                    lambda: attacked(model, self.attack, self.threat, self.data, seed, stage),
                )
            )
        with self.display.bar(stage, until, start, per_epoch) as move, warnings.catch_warnings():
            warnings.simplefilter("ignore", SearchWarning)  # the notes say it, of the state that is selected

            def show(moment: Moment) -> None:
                move(1, f"loss {float(moment.loss):.3f}" if moment.loss is not None else "")

            fit(
                model,
                self.data,
                objective=objective,
                optimizer=optimizer,
                pruner=pruner,
                until=until,
                start=start,
                schedule=SCHEDULES[settings.schedule],
                seed=seed,
                stage=stage,
                on=[tracker, show],
            )
        tracker.select()

    def _validator(self, stage: str, pruner: Pruner) -> Callable[[nn.Module], dict[str, float]] | None:
        held = self.held
        if held is None:
            return None

        def validate(model: nn.Module) -> dict[str, float]:
            named, measures = (self.recipe.seed, "validation", stage), {}
            parts = {"": held.once()}
            if pruner.hears_training:
                parts["train_"] = islice(self.data.once(), -(-len(held) // held.batch_size))
            for part, images in parts.items():
                batches: list[Batch] = list(images)
                for what, attack in (("clean", None), ("robust", self.attack)):
                    right = correct(model, batches, attack, self.threat, *named)
                    measures[f"{part}{what}"] = float(right.float().mean())
            return measures

        return validate
