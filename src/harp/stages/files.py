"""The files that one stage leaves for another."""

from pathlib import Path

from harp.config import FinetuneSettings, Planned, pruning, settings_of
from harp.errors import HarpError
from harp.pipeline.workspace import Workspace
from harp.runs import load_tensors
from harp.sparsity import Masks, Sites


def weights_before(work: Workspace, stage: Planned) -> Path | None:
    """The file with the weights that the stage begins from; None where it is the first and names none.

    Raises `HarpError` where the stage before it has not ended.
    """
    source = settings_of(work.recipe, stage).source
    before = work.stages[: stage.number - 1]
    if source is not None or not before:
        return source
    return _file(work, before[-1], "model.safetensors")


def files_from_elsewhere(work: Workspace, stage: Planned) -> list[Path]:
    """The files that the recipe names for the stage: weights, masks, a teacher's weights."""
    settings = settings_of(work.recipe, stage)
    named = [settings.source, settings.teacher]
    if isinstance(settings, FinetuneSettings) and (settings.masks or settings.source):
        named.append(masks_of(work, stage))
    return [path for path in named if path is not None]


def last_cut(work: Workspace, stage: Planned) -> Planned | None:
    """The prune stage that the stage is, or the last before it."""
    cuts = [one for one in work.stages[: stage.number] if one.kind == "prune"]
    return cuts[-1] if cuts else None


def masks_of(work: Workspace, stage: Planned) -> Path | None:
    """The file with the masks over the weights that the stage ended with, or is to train.

    None where whole channels went last: of what is left nothing is masked.
    """
    settings, cut = settings_of(work.recipe, stage), last_cut(work, stage)
    if isinstance(settings, FinetuneSettings) and settings.masks is not None:
        return settings.masks
    if (pruning(work.recipe, cut) if cut else work.recipe.prune).granularity == "channels":
        return None
    if isinstance(settings, FinetuneSettings) and settings.source is not None:
        return settings.source.with_name("masks.safetensors")
    if cut is None:
        raise HarpError(f"{stage.name} has no masks: no prune stage comes before it; name a file with finetune.masks")
    return _file(work, cut, "masks.safetensors")


def masks_in(path: Path, sites: Sites) -> Masks:
    """The masks in the file for these sites; raises `HarpError` where they are others'."""
    masks = load_tensors(path)
    missing = [site.name for site in sites if site.name not in masks]
    if missing:
        raise HarpError(f"{path} has no mask for {missing[0]}: it belongs to another model")
    strange = sorted(set(masks) - {site.name for site in sites})
    if strange:
        raise HarpError(f"{path} has a mask for {strange[0]}, which model.include and model.exclude do not select")
    return Masks({site.name: masks[site.name] for site in sites})


def model_files(work: Workspace) -> dict[str, Path]:
    """The weights of every finished training stage by its network's name; there is at least one.

    A dense network that was trained elsewhere is one of them.
    """
    found = {stage.network: work.run.at(stage.folder) / "model.safetensors" for stage in finished(work)}
    if "dense" not in found and (source := work.recipe.prune.source):
        found = {"dense": source, **found}
    if not found:
        raise HarpError(f"{work.run.folder} has no finished training stage to measure; run `harp pretrain` there first")
    return found


def measured_files(work: Workspace) -> dict[str, Path]:
    """Those of `model_files` that the recipe wants measured: all, or the last stage's."""
    found = model_files(work)
    return found if work.recipe.evaluation.networks == "all" else dict([list(found.items())[-1]])


def finished(work: Workspace) -> list[Planned]:
    """The training stages that have ended."""
    return [stage for stage in work.stages if work.run.done(stage.folder) is not None]


def _file(work: Workspace, stage: Planned, name: str) -> Path:
    if work.run.done(stage.folder) is None:
        raise HarpError(
            f"{work.run.folder} has no finished {stage.name} stage; run `harp {stage.kind}` there first, or name a "
            "safetensors file with --source"
        )
    return work.run.at(stage.folder) / name
