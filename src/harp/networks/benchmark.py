"""Robust accuracy in one call, in the shape that users of RobustBench know."""

import math
import warnings
from collections.abc import Callable
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from harp import data
from harp.ambient import precise
from harp.attacks import AttackWarning
from harp.config import make_recipe
from harp.errors import HarpError, choices
from harp.evaluation import Outcome, summary
from harp.models import Function
from harp.networks.assess import assess, check
from harp.pipeline.display import Display
from harp.pipeline.images import leading
from harp.runs import environment, file_word, read_json, write_json
from harp.threats import Threat, exact
from harp.wrappers import unwrapped

NORMS = {"Linf": "inf", "L2": "2", "L1": "1"}
INFO = Path("model_info")
# What RobustBench's entries tell of a model beside its numbers; whoever submits one fills them in.
FIELDS = ("link", "name", "authors", "additional_data", "number_forward_passes", "dataset", "venue", "architecture")


@precise()
def benchmark(
    model: nn.Module | Callable[[Tensor], object],
    n_examples: int = 10_000,
    dataset: str = "cifar10",
    threat_model: str = "Linf",
    to_disk: bool = False,
    model_name: str | None = None,
    data_dir: Path | str | None = None,
    device: torch.device | str | None = None,
    batch_size: int = 250,
    eps: float | str | None = None,
    aa_state_path: Path | str | None = None,
    *,
    version: Literal["standard", "plus", "rand"] = "standard",
    engine: Literal["official", "harp"] = "official",
    seed: int = 0,
    doubts: int = 128,
    acknowledge: tuple[str, ...] = (),
) -> tuple[float, float]:
    """Clean and robust accuracy in [0, 1] under AutoAttack, on the first `n_examples` test images in [0, 1]; of a set
    sorted by class, on as many, drawn from each class in proportion.

    `model` takes images [n, c, h, w] to logits [n, classes] and normalises inside itself. `threat_model` is Linf, L2
    or L1, and `eps`, in pixels' units, is required: "8/255" and 0.031 are two numbers. `device` None is the model's
    own. `aa_state_path` is a folder for the record, from which the same call goes on. `to_disk` writes
    model_info/DATASET/THREAT/MODEL_NAME.json with the fields of a leaderboard, and keeps those that are there.

    While a doubt is raised that is not in `acknowledge`, robust accuracy is NaN and a warning says why; `doubts` is
    how many images are examined for them. Raises `HarpError` for a threat without eps or name, and for more examples
    than there are.
    """
    if threat_model not in NORMS:
        raise HarpError(f"no threat model {threat_model!r}; {choices(threat_model, NORMS)}")
    if eps is None:
        raise HarpError("eps: expected a number in pixel units, such as eps='8/255' for Linf or eps=0.5 for L2")
    if to_disk and not model_name:
        raise HarpError("to_disk needs a model_name to file the result under")
    if to_disk and model_name:
        file_word("model_name", model_name)
    wanted = {
        "seed": seed,
        "threat": {"norm": NORMS[threat_model], "eps": eps},
        "evaluation": {
            "attacks": [version],
            "engine": engine,
            "batch_size": batch_size,
            "doubts": doubts,
            "acknowledge": acknowledge,
        },
    }
    recipe = make_recipe(wanted)
    threat = Threat(recipe.threat.order, recipe.threat.eps)
    check(recipe.evaluation, threat.norm)
    test = data.load(dataset, Path(data_dir) if data_dir else None).test
    if not 0 < n_examples <= len(test):
        raise HarpError(f"n_examples: expected 1 to the {len(test)} test images of {dataset}, got {n_examples}")
    network = unwrapped(model) if isinstance(model, nn.Module) else Function(model)
    place = torch.device(device) if device else _place(network)
    images = data.Resident(leading(test, n_examples), min(batch_size, n_examples), 0, device=place, shuffle=False)
    outcome = assess(
        network.to(place),
        images,
        threat,
        recipe.evaluation,
        seed,
        display=Display(),
        title=model_name or dataset,
        folder=Path(aa_state_path) if aa_state_path else None,
    )
    if to_disk:
        path = INFO / dataset.replace("/", "-") / threat_model / f"{model_name}.json"
        about = {"name": model_name, "dataset": dataset, "eps": exact(threat.eps)}
        ours = {"version": version, "engine": engine, "seed": seed, "date": date.today().isoformat()}
        _file(path, about, {**ours, **outcome.values(), "environment": environment(place)}, outcome)
    return _numbers(outcome)


def _place(model: nn.Module) -> torch.device:
    first = next(chain(model.parameters(), model.buffers()), torch.empty(0))
    return first.device


def _numbers(outcome: Outcome) -> tuple[float, float]:
    for doubt in outcome.open:
        warnings.warn(AttackWarning(f"{doubt.name}: {doubt.sentence}"), stacklevel=3)
    clean = summary(outcome.evaluation.flags)["clean"]["accuracy"]
    return clean, math.nan if outcome.robust is None else outcome.robust


def _file(path: Path, about: dict[str, Any], ours: dict[str, Any], outcome: Outcome) -> None:
    """The entry of a leaderboard: what was known of the model, the numbers of now, and our record of them."""
    clean = summary(outcome.evaluation.flags)["clean"]["accuracy"]
    numbers = {
        "clean_acc": f"{100 * clean:.2f}",
        "autoattack_acc": None if outcome.robust is None else f"{100 * outcome.robust:.2f}",
    }
    before = read_json(path) if path.exists() else dict.fromkeys(FIELDS)
    write_json(path, {**before, **about, **numbers, "harp": ours})
