"""Reads a run directory into a `Record`, and says which stage is missing where one is."""

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from harp.errors import HarpError
from harp.report.record import (
    Accuracy,
    Allocation,
    Curve,
    Evaluation,
    Examples,
    ModelResult,
    Record,
    SiteShare,
    Stage,
)
from harp.runs import Metrics, Run, load_tree, read_json
from harp.seals import read_sealed
from harp.threats import Threat

TRAINING = ("1-pretrain", "2-prune", "3-finetune")
MODELS = ("dense", "pruned", "finetuned")

_REQUIRED = {
    "recipe.yaml": "run",
    "environment.json": "run",
    "data.json": "run",
    "2-prune/metrics.jsonl": "run",
    "2-prune/done.json": "run",
    "2-prune/allocation.json": "run",
    "3-finetune/metrics.jsonl": "run",
    "3-finetune/done.json": "run",
    "evaluation/results.json": "evaluate",
    "evaluation/examples.safetensors": "evaluate",
    "export/manifest.json": "export",
}
_DATA = ("name", "fingerprint", "train", "validation", "test", "classes")
_MANIFEST = ("file", "bytes", "sha256", "total", "kept", "sites", "logits_equal", "checked_images")


def read_record(folder: Path) -> Record:
    """Everything recorded in the run directory `folder`; `1-pretrain` may be absent.

    Raises `HarpError` that names the command to run first for a missing file, and the folder for a record
    that lacks a value.
    """
    _require(folder)
    try:
        return _read(folder)
    except (KeyError, TypeError, AttributeError, ValueError, yaml.YAMLError) as error:
        raise HarpError(
            f"a record in {folder} is damaged or of another version ({type(error).__name__}: {error}); "
            "expected the files `harp run` writes"
        ) from error


def _require(folder: Path) -> None:
    if not folder.is_dir():
        raise HarpError(f"no run directory {folder}; expected one that `harp run` made")
    for name, command in _REQUIRED.items():
        if not (folder / name).is_file():
            raise HarpError(f"{folder} holds no {name}; run `harp {command}` on it before the report")


def _read(folder: Path) -> Record:
    text = (folder / "recipe.yaml").read_text()
    dense = folder / "1-pretrain/model.safetensors"
    return Record(
        recipe=_recipe(yaml.safe_load(text)),
        recipe_text=text,
        environment=read_json(folder / "environment.json"),
        data=_complete(read_json(folder / "data.json"), _DATA),
        stages=tuple(_stages(Run(folder))),
        notes=tuple(_notes(Run(folder))),
        allocation=_allocation(read_json(folder / "2-prune/allocation.json")),
        evaluation=_evaluation(_judged(folder / "evaluation")),
        curves=dict(_curves(folder / "evaluation")),
        examples=_examples(folder / "evaluation/examples.safetensors"),
        manifest=_complete(read_json(folder / "export/manifest.json"), _MANIFEST),
        dense_bytes=dense.stat().st_size if dense.is_file() else None,
    )


def _recipe(value: Mapping[str, Any]) -> Mapping[str, Any]:
    _complete(value, ("name", "precision"))
    _complete(value["model"], ("name",))
    _complete(value["prune"], ("mode",))
    for name in TRAINING:
        _complete(value[name.partition("-")[2]], ("objective", "awp"))
    return value


def _complete(value: Mapping[str, Any], keys: Iterable[str]) -> Mapping[str, Any]:
    for key in keys:
        value[key]
    return value


def _stages(run: Run) -> Iterator[Stage]:
    for name in TRAINING:
        done = run.done(name)
        if done is not None:
            yield Stage(name, tuple(Metrics(run.at(name) / "metrics.jsonl")), done)


def _notes(run: Run) -> Iterator[tuple[str, str]]:
    for name in (*TRAINING, "evaluation", "export"):
        for note in (run.done(name) or {}).get("notes", ()):
            yield name, str(note)


def _allocation(value: Mapping[str, Any]) -> Allocation:
    fields = ("name", "size", "kept", "uniform", "rate")
    return Allocation(
        method=value["method"],
        granularity=_one_of(value["granularity"], ("weights", "channels")),
        of=_one_of(value["of"], ("parameters", "macs")),
        keep=value["keep"],
        budget=value["budget"],
        price=value["price"],
        total=value["total"],
        density_before=value["density_before"],
        sites=tuple(SiteShare(*(site[field] for field in fields)) for site in value["sites"]),
    )


def _one_of(value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise ValueError(f"expected {' or '.join(choices)}, got {value!r}")
    return value


def _judged(folder: Path) -> Mapping[str, Any]:
    """results.json, whose models have the accuracies of their own records, none of which was changed since."""
    found = read_sealed(folder / "results.json")
    for name, row in found["models"].items():
        own = folder / name / "result.json"
        if own.exists() and not read_sealed(own)["measures"].items() <= row.items():
            raise HarpError(f"{folder}/results.json says what {own} does not; delete {folder} and evaluate anew")
    return found


def _evaluation(value: Mapping[str, Any]) -> Evaluation:
    threat = value["threat"]
    norm = math.inf if str(threat["norm"]) == "inf" else float(threat["norm"])
    models = {name: _model(name, value["models"][name]) for name in MODELS}
    return Evaluation(Threat(norm, float(threat["eps"])), value["attacks"], models)


def _model(name: str, value: Mapping[str, Any]) -> ModelResult:
    accuracies = {row: read_accuracy(cell) for row, cell in value.items() if isinstance(cell, Mapping)}
    sizes = {key: int(value[key]) for key in ("kept", "total", "macs", "total_macs")}
    return ModelResult(name, accuracies=dict(_complete(accuracies, ("clean", "worst"))), **sizes)


def _curves(folder: Path) -> Iterator[tuple[str, Curve]]:
    for name in MODELS:
        path = folder / name / "curve.safetensors"
        if path.exists():
            yield name, read_curve(path)


def read_curve(path: Path) -> Curve:
    """The security curve in a record's curve.safetensors; raises `HarpError` for a missing or damaged file."""
    tree = load_tree(path)
    eps, accuracy, low, high = (tree[key].double().numpy() for key in ("eps", "accuracy", "low", "high"))
    return Curve(eps, accuracy, low, high, int(tree["n"]))


def read_accuracy(cell: Mapping[str, Any]) -> Accuracy:
    """A measure's row of a result, as recorded."""
    doubts = tuple(cell.get("doubts", ()))
    return Accuracy(cell["accuracy"], cell["low"], cell["high"], cell["n"], doubts, cell.get("examined") != 0)


def _examples(path: Path) -> Examples:
    tree = load_tree(path)
    return Examples(
        images=tree["images"].double().numpy(),
        labels=tuple(int(label) for label in tree["labels"]),
        adversarial={name: batch.double().numpy() for name, batch in tree["adversarial"].items()},
        predictions={name: batch.numpy() for name, batch in tree["predictions"].items()},
    )
