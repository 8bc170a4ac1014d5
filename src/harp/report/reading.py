"""Reads a run directory into a `RunRecord`, and says which stage is missing where one is."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch

from harp.config import EVALUATION, EXPORT, KINDS, NETWORKS, Planned, plan
from harp.config.documents import read_yaml
from harp.errors import HarpError
from harp.report.record import Curve, Examples, Measured, ModelResult, RunRecord, Stage
from harp.report.schemas import Told
from harp.report.training import read_metrics
from harp.runs import DamagedError, Run, checked, load_tree, read_json
from harp.seals import read_sealed
from harp.threats import Threat
from harp.written import Accuracy, Allocation, CurveTree, DataSet, ExamplesTree, Export, Results, Row

_ALWAYS = {
    "recipe.yaml": "run",
    "environment.json": "run",
    "data.json": "run",
    f"{EVALUATION}/results.json": "evaluate",
    f"{EVALUATION}/examples.safetensors": "evaluate",
    f"{EXPORT}/manifest.json": "export",
}


def read_record(folder: Path) -> RunRecord:
    """Everything recorded in the run directory `folder`; `1-pretrain` may be absent.

    Raises `HarpError` that names the command to run first for a missing file, and the file for a record that is
    damaged or lacks a value.
    """
    _require(folder, ("recipe.yaml",))
    text, recipe = _recipe(folder / "recipe.yaml")
    stages = plan(tuple(recipe.get("stages", KINDS)))
    cuts = [stage for stage in stages if stage.kind == "prune"]
    if not cuts:
        raise HarpError(f"{folder} has no prune stage, and a report tells of what was pruned")
    _require(folder, _files(stages, cuts[0]))
    data: DataSet = _as(folder / "data.json", DataSet)
    found = tuple(_stages(Run(folder), stages))
    asked = recipe.get("evaluation", {}).get("networks", "all")
    evaluation = _evaluation(folder / EVALUATION / "results.json", stages if asked == "all" else stages[-1:])
    dense = folder / "1-pretrain/model.safetensors"
    return RunRecord(
        recipe=recipe,
        recipe_text=text,
        environment=read_json(folder / "environment.json", dict[str, Any]),
        data=data,
        stages=found,
        notes=tuple(_notes(Run(folder), stages)),
        allocation=read_allocation(folder / cuts[-1].folder / "allocation.json"),
        evaluation=evaluation,
        curves=dict(_curves(folder / EVALUATION, evaluation.models)),
        examples=_examples(folder / EVALUATION / "examples.safetensors", len(data.classes), {*evaluation.models}),
        manifest=read_export(folder / EXPORT / "manifest.json"),
        dense_bytes=dense.stat().st_size if dense.is_file() else None,
    )


def _files(stages: Sequence[Planned], first: Planned) -> Iterator[str]:
    """What a report needs of a run; nothing of stages before the `first` prune stage, whose network may be given."""
    yield from _ALWAYS
    for stage in stages[first.number - 1 :]:
        names = ("metrics.jsonl", "done.json", *(("allocation.json",) if stage.kind == "prune" else ()))
        yield from (f"{stage.folder}/{name}" for name in names)


def read_allocation(path: Path) -> Allocation:
    """How a budget was shared out, from allocation.json; raises `DamagedError` for a missing or damaged file."""
    found: Allocation = _as(path, Allocation)
    if not found.sites:
        raise DamagedError(path, f"{path} is damaged or of another version: it names no layer")
    return found


def read_export(path: Path) -> Export:
    """The manifest of an export; raises `DamagedError` for a missing or damaged file."""
    found: Export = _as(path, Export)
    return found


def read_models(path: Path) -> dict[str, dict[str, Any]]:
    """The rows of results.json by model, as they are.

    Raises `DamagedError` for a missing or damaged file, and `HarpError` for one whose seal is broken.
    """
    found = read_sealed(path)
    checked(path, found, Results)
    models: dict[str, dict[str, Any]] = found["models"]
    return models


def _as(path: Path, kind: Any) -> Any:
    return checked(path, read_json(path), kind)


def _require(folder: Path, names: Iterable[str]) -> None:
    if not folder.is_dir():
        raise HarpError(f"no run directory {folder}; expected one that `harp run` made")
    for name in names:
        if not (folder / name).is_file():
            command = _ALWAYS.get(name, "run")
            raise HarpError(f"{folder} holds no {name}; run `harp {command}` on it before the report")


def _recipe(path: Path) -> tuple[str, Mapping[str, Any]]:
    try:
        value, text = read_yaml(path), path.read_text()
    except (OSError, ValueError) as error:
        raise DamagedError(path, f"{path} is not a readable recipe: {error}") from None
    checked(path, value, Told)
    return text, value


def _stages(run: Run, stages: Iterable[Planned]) -> Iterator[Stage]:
    for stage in stages:
        done = run.done(stage.folder)
        if done is not None:
            yield Stage(stage, read_metrics(run.at(stage.folder) / "metrics.jsonl"), done)


def _notes(run: Run, stages: Iterable[Planned]) -> Iterator[tuple[str, str]]:
    for name in (*(stage.folder for stage in stages), EVALUATION, EXPORT):
        for note in (run.done(name) or {}).get("notes", ()):
            yield name, note


def _evaluation(path: Path, stages: Sequence[Planned]) -> Measured:
    value = read_sealed(path)
    found: Results = checked(path, value, Results)
    expected = ["dense", *(stage.network for stage in stages if stage.network != "dense")]
    for name in expected:
        if name not in found.models:
            if name.partition("-")[0] == NETWORKS["pretrain"]:  # trained sparse from scratch, or pruned as it was given
                continue
            raise DamagedError(path, f"{path} is damaged or of another version: it lacks models.{name}")
        own = path.parent / name / "result.json"
        if own.exists() and not read_sealed(own)["measures"].items() <= value["models"][name].items():
            raise HarpError(f"{path} says what {own} does not; delete {path.parent} and evaluate anew")
    models = {name: _model(name, found.models[name]) for name in expected if name in found.models}
    return Measured(_threat(path, found.threat), found.attacks, models)


def _threat(path: Path, value: Mapping[str, Any]) -> Threat:
    try:
        return Threat(math.inf if value["norm"] == "inf" else float(value["norm"]), float(value["eps"]))
    except (KeyError, TypeError, ValueError, HarpError) as error:
        said = f"{type(error).__name__}: {error}"
        raise DamagedError(path, f"{path} is damaged or of another version: threat: {said}") from None


def _model(name: str, row: Row) -> ModelResult:
    accuracies = {"clean": row.clean, **(row.__pydantic_extra__ or {}), "worst": row.worst}
    return ModelResult(name, row.kept, row.total, row.macs, row.total_macs, accuracies)


def _curves(folder: Path, names: Iterable[str]) -> Iterator[tuple[str, Curve]]:
    for name in names:
        path = folder / name / "curve.safetensors"
        if path.exists():
            yield name, read_curve(path)


def read_curve(path: Path) -> Curve:
    """The security curve in a record's curve.safetensors; raises `DamagedError` for a missing or damaged file."""
    tree: CurveTree = checked(path, load_tree(path), CurveTree)
    values = [value.double().numpy() for value in (tree.eps, tree.accuracy, tree.low, tree.high)]
    if any(value.shape != (values[0].size,) or not value.size or not numpy.isfinite(value).all() for value in values):
        raise DamagedError(path, f"{path} is damaged or of another version: no curve of one length")
    return Curve(values[0], values[1], values[2], values[3], tree.n)


def read_accuracy(cell: Mapping[str, Any]) -> Accuracy:
    """A measure's row of a result, as recorded."""
    doubts = tuple(cell.get("doubts", ()))
    return Accuracy(cell["accuracy"], cell["low"], cell["high"], cell["n"], doubts, cell.get("examined") != 0)


def _examples(path: Path, classes: int, names: set[str]) -> Examples:
    tree: ExamplesTree = checked(path, load_tree(path), ExamplesTree)
    images, labels = tree.images, tree.labels
    predicted = [labels, *tree.predictions.values()]
    named = {*tree.adversarial} == {*tree.predictions} == names
    fit = images.ndim == 4 and labels.shape == images.shape[:1] and named
    fit = fit and all(adversarial.shape == images.shape for adversarial in tree.adversarial.values())
    fit = fit and all(said.shape == (len(images), 2) for said in tree.predictions.values())
    fit = fit and all(said.dtype == torch.int64 and bool(((said >= 0) & (said < classes)).all()) for said in predicted)
    if not fit:
        raise DamagedError(path, f"{path} is damaged or of another version: images, labels and answers do not fit")
    return Examples(
        images=images.double().numpy(),
        labels=tuple(labels.tolist()),
        adversarial={name: batch.double().numpy() for name, batch in tree.adversarial.items()},
        predictions={name: batch.numpy() for name, batch in tree.predictions.items()},
    )
