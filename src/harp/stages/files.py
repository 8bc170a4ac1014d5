"""The files that one stage leaves for another."""

from pathlib import Path

from harp.errors import HarpError
from harp.pipeline.workspace import FOLDERS, Workspace
from harp.runs import load_tensors
from harp.sparsity import Masks, Sites


def dense_weights(work: Workspace) -> Path:
    """The file with the dense network's weights; raises `HarpError` where there is none yet."""
    return work.recipe.prune.source or previous(work, "pretrain")


def final_masks(work: Workspace) -> Path:
    """The file with the masks that fine-tuning keeps."""
    settings = work.recipe.finetune
    if settings.masks is not None:
        return settings.masks
    if settings.source is not None:
        return settings.source.with_name("masks.safetensors")
    return previous(work, "prune").with_name("masks.safetensors")


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


def previous(work: Workspace, stage: str) -> Path:
    if work.run.done(FOLDERS[stage]) is None:
        raise HarpError(
            f"{work.run.folder} has no finished {stage} stage; run `harp {stage}` there first, or name a safetensors "
            "file with --source"
        )
    return work.run.at(FOLDERS[stage]) / "model.safetensors"


def model_files(work: Workspace) -> dict[str, Path]:
    """The dense, pruned and fine-tuned weights, as far as they exist; at least one does."""
    files = {name: work.run.at(FOLDERS[stage]) / "model.safetensors" for name, stage in _STAGE_OF.items()}
    found = {name: files[name] for name, stage in _STAGE_OF.items() if work.run.done(FOLDERS[stage])}
    if "dense" not in found and work.recipe.prune.source:
        found = {"dense": dense_weights(work), **found}
    if not found:
        raise HarpError(f"{work.run.folder} has no finished training stage to measure; run `harp pretrain` there first")
    return found


_STAGE_OF = {"dense": "pretrain", "pruned": "prune", "finetuned": "finetune"}
