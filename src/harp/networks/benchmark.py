"""Robust accuracy in one call, in the shape that users of RobustBench know."""

import math
import warnings
from collections.abc import Callable, Mapping
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import torch
from torch import Tensor, nn

from harp import data
from harp.ambient import precise
from harp.attacks import AttackWarning
from harp.config import Recipe, make_recipe
from harp.errors import HarpError, choices
from harp.evaluation import Outcome, summary
from harp.models import Function
from harp.networks.assess import Asked, assess, check
from harp.pipeline.display import Display
from harp.pipeline.images import leading
from harp.runs import environment, file_word, read_json, write_json
from harp.threats import Threat, exact
from harp.wrappers import unwrapped

NORMS = {"Linf": "inf", "L2": "2", "L1": "1"}
INFO = Path("model_info")
# What RobustBench's entries tell of a model beside its numbers; whoever submits one fills them in.
FIELDS = ("link", "name", "authors", "additional_data", "number_forward_passes", "dataset", "venue", "architecture")


class BenchmarkOptions(TypedDict, total=False):
    """What `benchmark` may be told beside the network, the images and the threat."""

    device: torch.device | str | None
    """where to compute; None: where the network is"""
    data_dir: Path | str | None
    """where the images lie; None: the set's own place"""
    batch_size: int
    """images at once: 250"""
    eps: float | str | None
    """size of the perturbation in pixel units, required: "8/255" and 0.031 are two numbers"""
    aa_state_path: Path | str | None
    """a folder for the record, from which the same call goes on; None: no record"""
    version: Literal["standard", "plus", "rand"]
    """of AutoAttack: standard"""
    engine: Literal["official", "harp"]
    """who runs its attacks: its authors' package, official; or harp"""
    seed: int
    """of every random draw: 0"""
    doubts: int
    """how many images are examined for signs of false robustness: 128"""
    acknowledge: tuple[str, ...]
    """doubts that were looked into: ()"""


@precise()
def benchmark(
    model: nn.Module | Callable[[Tensor], object],
    n_examples: int = 10_000,
    dataset: str = "cifar10",
    threat_model: str = "Linf",
    to_disk: bool = False,
    model_name: str | None = None,
    **options: Unpack[BenchmarkOptions],
) -> tuple[float, float]:
    """Clean and robust accuracy in [0, 1] under AutoAttack, on the first `n_examples` test images in [0, 1]; of a set
    sorted by class, on as many, drawn from each class in proportion.

    `model` takes images [n, c, h, w] to logits [n, classes] and normalises inside itself. `threat_model` is Linf, L2
    or L1. The other options are `BenchmarkOptions`, of
    which `eps` is required. `to_disk` writes model_info/DATASET/THREAT/MODEL_NAME.json with the fields of a
    leaderboard, and keeps those that are there.

    While a doubt is raised that is not acknowledged, robust accuracy is NaN and a warning says why. Raises `HarpError`
    for a threat without eps or name, for an option there is not, and for more examples than there are.
    """
    if strange := sorted(set(options) - set(BenchmarkOptions.__annotations__)):
        raise HarpError(f"no option {strange[0]!r}; {choices(strange[0], BenchmarkOptions.__annotations__)}")
    asked = {name: value for name, value in options.items() if name not in ("device", "data_dir", "aa_state_path")}
    if threat_model not in NORMS:
        raise HarpError(f"no threat model {threat_model!r}; {choices(threat_model, NORMS)}")
    if asked.get("eps") is None:
        raise HarpError("eps: expected a number in pixel units, such as eps='8/255' for Linf or eps=0.5 for L2")
    if to_disk:
        if not model_name:
            raise HarpError("to_disk needs a model_name to file the result under")
        file_word("model_name", model_name)
    recipe = _recipe(NORMS[threat_model], asked)
    threat = Threat(recipe.threat.order, recipe.threat.eps)
    check(recipe.evaluation, threat.norm)
    data_dir, folder = options.get("data_dir"), options.get("aa_state_path")
    test = data.load(dataset, Path(data_dir) if data_dir else None).test
    if not 0 < n_examples <= len(test):
        raise HarpError(f"n_examples: expected 1 to the {len(test)} test images of {dataset}, got {n_examples}")
    network = unwrapped(model) if isinstance(model, nn.Module) else Function(model)
    place = torch.device(options.get("device") or _place(network))
    size = min(recipe.evaluation.batch_size, n_examples)
    images = data.feed(leading(test, n_examples), size, 0, device=place, shuffle=False)
    title, record = model_name or dataset, Path(folder) if folder else None
    outcome = assess(network.to(place), images, Asked(threat, recipe.evaluation, recipe.seed, Display(), title, record))
    if to_disk:
        path = INFO / dataset.replace("/", "-") / threat_model / f"{model_name}.json"
        about = {"name": model_name, "dataset": dataset, "eps": exact(threat.eps)}
        version, engine = recipe.evaluation.attacks[0], recipe.evaluation.engine
        ours = {"version": version, "engine": engine, "seed": recipe.seed, "date": date.today().isoformat()}
        _file(path, about, {**ours, **outcome.values(), "environment": environment(place)}, outcome)
    return _numbers(outcome)


def _recipe(norm: str, asked: Mapping[str, Any]) -> Recipe:
    """The options as a recipe; raises `HarpError` for values that none could have."""
    given = {name: asked[name] for name in ("batch_size", "doubts", "acknowledge") if name in asked}
    evaluation = {**given, "attacks": [asked.get("version", "standard")], "engine": asked.get("engine", "official")}
    threat = {"norm": norm, "eps": asked["eps"]}
    return make_recipe({"seed": asked.get("seed", 0), "threat": threat, "evaluation": evaluation})


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
