"""The training stages of a recipe one after the other, each with its folder and its settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harp.config.reading import make_settings, merged
from harp.config.settings import KINDS, Recipe
from harp.config.training import FinetuneSettings, PruneSettings, TrainingSettings
from harp.errors import HarpError

EVALUATION, EXPORT = "evaluation", "export"
NETWORKS = {"pretrain": "dense", "prune": "pruned", "finetune": "finetuned"}
_OF_THE_FIRST = ("source", "masks")


@dataclass(frozen=True)
class Planned:
    """One training stage: its kind, its `number` in the list and its `turn` among those of its kind, both from 1."""

    kind: str
    number: int
    turn: int
    own: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def folder(self) -> str:
        """`2-prune`: where its files lie in the run's folder."""
        return f"{self.number}-{self.kind}"

    @property
    def name(self) -> str:
        """`prune`, and the second time `prune-2`: what it is called, and what names its random draws."""
        return self.kind if self.turn == 1 else f"{self.kind}-{self.turn}"

    @property
    def network(self) -> str:
        """`dense`, `pruned`, `finetuned`, and the second time `pruned-2`: what its network is called in results."""
        return NETWORKS[self.kind] if self.turn == 1 else f"{NETWORKS[self.kind]}-{self.turn}"


def plan(stages: tuple[str | Mapping[str, Any], ...] = KINDS) -> tuple[Planned, ...]:
    """The stages that the list in a recipe names, in order."""
    found: list[Planned] = []
    for number, item in enumerate(stages, 1):
        kind, own = (item, {}) if isinstance(item, str) else next(iter(item.items()))
        turn = 1 + sum(before.kind == kind for before in found)
        found.append(Planned(kind, number, turn, own))
    return tuple(found)


def settings_of(recipe: Recipe, stage: Planned) -> TrainingSettings:
    """The settings of one stage: those of its section, and over them its own in the list.

    A section's `source` and `masks` are of the first stage of its kind, and the options of a pruning method are not
    another's. Raises `HarpError` for settings that are none of the section's.
    """
    section: TrainingSettings = getattr(recipe, stage.kind)
    if stage.turn == 1 and not stage.own:
        return section
    below = section.model_dump()
    if stage.turn > 1:
        below = {name: value for name, value in below.items() if name not in _OF_THE_FIRST}
    if stage.own.get("method", below.get("method")) != below.get("method"):
        del below["options"]
    return make_settings(type(section), merged(below, stage.own), f"stages: {stage.name}")


def loses_channels(recipe: Recipe) -> bool:
    """Whether channels are pruned in a stage of the recipe, and with them the network's shape."""
    cuts = [pruning(recipe, stage) for stage in plan(recipe.stages) if stage.kind == "prune"]
    return any(settings.granularity == "channels" for settings in cuts or [recipe.prune])


def pruning(recipe: Recipe, stage: Planned) -> PruneSettings:
    """The settings of a prune stage."""
    found = settings_of(recipe, stage)
    assert isinstance(found, PruneSettings)
    return found


def tuning(recipe: Recipe, stage: Planned) -> FinetuneSettings:
    """The settings of a finetune stage."""
    found = settings_of(recipe, stage)
    assert isinstance(found, FinetuneSettings)
    return found


def check_plan(recipe: Recipe) -> None:
    """Raises `HarpError` for a list of stages in which one undoes or lacks what another did."""
    stages = plan(recipe.stages)
    if not stages:
        raise HarpError(f"stages: expected at least one of {', '.join(KINDS)}")
    cuts = [stage for stage in stages if stage.kind == "prune"]
    for stage in stages:
        settings_of(recipe, stage)
        if stage.kind == "pretrain" and cuts and stage.number > cuts[0].number:
            raise HarpError(
                f"stages: {stage.folder} would train the weights that {cuts[0].folder} removed; use finetune"
            )
    kinds = [pruning(recipe, stage).granularity for stage in cuts]
    if kinds.count("channels") > 1:
        raise HarpError("stages: channels are removed for good, in one prune stage; expected no second one")
    if "channels" in kinds[1:]:
        first = cuts[kinds.index("channels")].folder
        raise HarpError(f"stages: {first} would remove channels of weights that were pruned; expected channels first")
    if len(set(kinds) - {"channels"}) > 1:
        raise HarpError("stages: granularity is one for all but channels, which may go first; set prune.granularity")
