"""A run of every stage in seconds: 160 digits, a twelfth of the width, a handful of steps a stage."""

from pathlib import Path
from typing import Any

from rich.console import Console

from harp.config import Recipe, make_recipe
from harp.pipeline import Workspace
from harp.pipeline.display import Display

TINY: dict[str, Any] = {
    "name": "tiny",
    "data": {"train": 160, "holdout": 0.2},
    "model": {"width": 0.125},
    "threat": {"eps": 0.1},
    "attack": {"steps": 2},
    "pretrain": {"epochs": 3, "batch_size": 32, "lr": 0.05},
    "prune": {"epochs": 3, "batch_size": 32, "options": {"gamma": 0.5}, "keep": 0.1},
    "finetune": {"epochs": 2, "batch_size": 32},
    "evaluation": {"images": 60, "steps": 3, "restarts": 2, "doubts": 8},
}


def tiny(**sections: object) -> Recipe:
    """The tiny recipe with settings over it; a mapping goes over the section of its name."""
    values: dict[str, Any] = dict(TINY)
    for name, value in sections.items():
        below = values.get(name)
        values[name] = {**below, **value} if isinstance(below, dict) and isinstance(value, dict) else value
        if name == "prune" and isinstance(value, dict) and "method" in value and "options" not in value:
            del values["prune"]["options"]
    return make_recipe(values)


def workspace(folder: Path, **sections: object) -> Workspace:
    return Workspace(tiny(**sections), folder, Display(Console(quiet=True)))


def results(folder: Path) -> dict[str, bytes]:
    """The bytes of everything a run must repeat: weights, masks, rates, metrics, flags, accuracies."""
    kept = [*folder.rglob("*.safetensors"), *folder.rglob("metrics.jsonl"), *folder.rglob("results.json")]
    kept += [*folder.rglob("allocation.json"), *folder.rglob("manifest.json")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(kept)}
