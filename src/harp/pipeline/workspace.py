"""What every stage of a run needs: its folder, images, network, threat and display, checked before any work begins."""

from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from harp import data, models
from harp.attacks import PGD
from harp.config import (
    EVALUATION,
    EXPORT,
    Planned,
    PruneSettings,
    Recipe,
    TrainingSettings,
    identity,
    lasting,
    loses_channels,
    plan,
)
from harp.errors import HarpError
from harp.export import timed
from harp.objectives import Objective
from harp.pipeline.beginning import begin
from harp.pipeline.devices import find_device
from harp.pipeline.display import Display
from harp.pipeline.edits import Sources, own_names
from harp.pipeline.images import Split, split_images, varied
from harp.pipeline.kept import check_kept
from harp.pipeline.limits import check_width
from harp.pipeline.names import check_names, without_teacher
from harp.pipeline.objectives import make_objective
from harp.randomness import seed_of
from harp.ranks import Ranks, joined
from harp.runs import Run, environment, load_tensors
from harp.sparsity import Budget, Sites, Units, find_sites, find_units, resize
from harp.threats import Threat
from harp.training import Precision


def default_folder(recipe: Recipe) -> Path:
    """runs/NAME-IDENTITY: the same recipe, the same folder."""
    return Path("runs") / f"{recipe.name}-{identity(lasting(recipe))}"


class Workspace:
    """A run's folder and everything a recipe names, built on first use.

    `edited` are files of the network's own sources that may differ from what the folder was begun with.
    Raises `HarpError` for names nothing is registered under, a device that is not there, or a folder that holds a
    run of another recipe.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path | None = None,
        display: Display | None = None,
        edited: Collection[str] = (),
    ):
        self.recipe = recipe
        self.display = display or Display()
        if not self.ranks.first:
            self.display = Display(Console(quiet=True))
        self.run = Run(folder or default_folder(recipe))
        self.sources = Sources(self.run.folder, own_names(recipe), edited)
        self.device = find_device(recipe.device, self.ranks)
        if recipe.threads is not None:
            torch.set_num_threads(recipe.threads)
        check_names(recipe)

    @property
    def ranks(self) -> Ranks:
        """The processes that work on this run, as far as they are working together."""
        return joined()

    @property
    def stages(self) -> tuple[Planned, ...]:
        """The training stages of the run."""
        return plan(self.recipe.stages)

    @property
    def folders(self) -> tuple[str, ...]:
        """Where the stages' files lie in the run's folder."""
        return (*(stage.folder for stage in self.stages), EVALUATION, EXPORT)

    def check_recipe(self) -> None:
        """Raises `HarpError` where the folder was begun with sources or settings that would be mixed with others."""
        self.sources.check()
        check_kept(self.run, self.recipe)

    def open(self) -> None:
        """The folder holds the resolved recipe, the environment and the data; what cannot work raises first.

        Gone are a report, which does not tell what is done now, and what a kill left of stages that had ended.
        """
        self.model()  # with the images that it is for: what cannot be had raises before a file is touched
        self.ranks.told(lambda: begin(self))

    def environment(self) -> dict[str, Any]:
        """What a result depends on beside recipe and data: of a user's own network its sources, too."""
        ranks = {"ranks": self.ranks.size} if self.ranks.size > 1 else {}
        return {**environment(self.device), **ranks, "sources": self.sources.digests()}

    @property
    def threat(self) -> Threat:
        settings = self.recipe.threat
        return Threat(norm=settings.order, eps=settings.eps)

    @property
    def precision(self) -> Precision:
        return Precision(**self.recipe.precision.model_dump())

    @property
    def training_attack(self) -> PGD:
        """The attack of validation, and of training where a stage has none of its own."""
        return PGD(**self.recipe.attack.model_dump())

    def attack(self, settings: TrainingSettings) -> PGD:
        """What the stage of `settings` trains against."""
        return PGD(**{**self.recipe.attack.model_dump(), **settings.attack.model_dump(exclude_none=True)})

    def objective(
        self, settings: TrainingSettings, batches: data.Batches, teacher: Callable[[], nn.Module] | None = None
    ) -> Objective:
        """What the stage of `settings` minimises over `batches`; it learns from its own `teacher`, or that one."""
        return make_objective(
            settings,
            self.attack(settings),
            self.threat,
            per_epoch=batches.steps_per_epoch,
            classes=len(self.split.dataset.classes),
            teacher=lambda: self.teacher(settings) if teacher is None else teacher(),
        )

    def teacher(self, settings: TrainingSettings) -> nn.Module:
        """The network whose answers the stage of `settings` learns; raises `HarpError` where there is none."""
        path = settings.teacher or self.recipe.prune.source
        if path is not None:
            return self.loaded(path)
        dense = [stage.folder for stage in self.stages if stage.kind == "pretrain" and self.run.done(stage.folder)]
        if not dense:
            raise HarpError(without_teacher(settings))
        return self.loaded(self.run.at(dense[-1]) / "model.safetensors")

    @cached_property
    def split(self) -> Split:
        """The images of the run by their use."""
        return split_images(self.recipe)

    def batches(self, stage: str, batch_size: int, whole: bool = False) -> data.Epochs:
        """The training images as `fit` wants them, augmented, in an order of the stage's own.

        Of several ranks each gets its part of every batch, unless it is to have the `whole`.
        """
        return data.feed(
            self.split.train,
            batch_size,
            seed_of(self.recipe.seed, stage, "data"),
            device=self.device,
            part=(0, 1) if whole else self.ranks.part,
            **varied(self.recipe.data, self.split.dataset),
        )

    def in_order(self, images: data.Labelled, batch_size: int) -> data.Epochs:
        """Images for measuring, as they are."""
        size = min(batch_size, len(images))
        return data.feed(images, size, 0, device=self.device, shuffle=False)

    def model(self, draw: str = "weights") -> nn.Module:
        """The recipe's network with the weights its seed gives it; under another `draw` with others."""
        settings, dataset = self.recipe.model, self.split.dataset
        counts, size = {"classes": len(dataset.classes), "channels": dataset.channels}, models.size_of(*dataset.size)
        check_width(settings.name, settings.width, **counts, size=size)
        with torch.random.fork_rng([]):
            torch.manual_seed(seed_of(self.recipe.seed, draw))
            model = models.build(
                settings.name,
                **counts,
                size=size,
                width=settings.width,
                normalise=settings.normalise,
                output=settings.output,
            )
        # Here and not in training alone: one layout, so one set of kernels, from the first step to the exported file.
        return self.precision.lay_out(model.to(self.device))

    def loaded(self, path: Path, small: bool = False, draw: str = "weights") -> nn.Module:
        """The recipe's network with the weights in `path`; where it is `small`, without the channels the file lacks."""
        state = load_tensors(path)
        model = self.smaller(state, draw) if small else self.model(draw)
        models.load_weights(model, state, str(path))
        return model

    def smaller(self, state: Mapping[str, Tensor], draw: str = "weights") -> nn.Module:
        """The recipe's network in the shapes of `state`, which are its own unless channels are pruned."""
        model = self.model(draw)
        if self.channels:
            resize(model, {name: value.shape for name, value in state.items()})
        return model

    def budget(self, settings: PruneSettings, units: Units) -> Budget:
        """What the prune stage of `settings` may leave of `units`: a share of the network before any channel went."""
        asked = Budget(settings.keep, settings.measure, settings.floor)
        if asked.of == "latency":
            if self.channels:
                raise HarpError("a budget of latency is of the network as it is built; where channels go, take macs")
            return timed(units, self.model(), self.example, asked)
        if not self.channels or units.kind == "channels":
            return asked
        whole = find_units(model := self.model(), self.example, sites=self.sites(model))
        cost, left = (one.cost(asked.of) for one in (whole, units))
        return asked.within(cost(whole.sizes), left(units.sizes))

    @property
    def channels(self) -> bool:
        """Whether channels are pruned, and with them the network's shape."""
        return loses_channels(self.recipe)

    @cached_property
    def example(self) -> Tensor:
        """One image, to trace networks with: [1, c, h, w]."""
        image, _ = next(iter(self.in_order(self.split.train, 1).once()))
        return image

    def sites(self, model: nn.Module) -> Sites:
        """The weights of `model` that pruning and its budget are about."""
        return find_sites(model, self.recipe.model.include, self.recipe.model.exclude)

    def units(self, model: nn.Module, settings: PruneSettings) -> Units:
        """What the prune stage of `settings` keeps or removes as one in `model`, with its price."""
        return find_units(model, self.example, settings.granularity, self.sites(model))
