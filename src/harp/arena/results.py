"""What an arena came to: every finished run as a row, ranked within its budget; typed, and written as JSON and CSV."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy
import torch
from pydantic import BaseModel
from safetensors.numpy import load_file
from torch import Tensor

from harp.arena.cost import forwards
from harp.arena.grid import Cell, Grid
from harp.arena.running import FAILED, is_finished
from harp.config import EVALUATION, EXPORT, plan
from harp.evaluation import flags_of, mcnemar, spread
from harp.report.reading import read_allocation, read_export, read_models
from harp.runs import Run, environment, read_json, write_json

RESULTS = "results.json"


class Share(BaseModel):
    """A share of images in [0, 1], its 95 % interval over images, and the doubts that are open."""

    accuracy: float
    low: float
    high: float
    doubts: tuple[str, ...] = ()


class Result(BaseModel):
    """One finished cell. `kept` counts the non-zero weights in the exported file, `allowed` is the budget."""

    row: str
    method: str
    keep: float
    seed: int
    folder: str
    accuracies: dict[str, Share]
    """by measure: clean, each attack, worst"""
    n: int
    kept: int
    total: int
    macs: int
    total_macs: int
    budget: int
    of: str
    bytes: int
    package_bytes: int | None
    """None where the network could not be packed"""
    shares: dict[str, float]
    """the share of its units that each layer group keeps"""
    seconds: float
    """of training"""
    forwards: float
    """what training cost, in forward passes of one image; pretraining is not in it but for methods from scratch"""
    notes: tuple[str, ...]


class Failure(BaseModel):
    row: str
    keep: float
    seed: int
    reason: str


class Neighbours(BaseModel):
    """Two rows next to one another in a ranking, on the same images of the seeds that both have: McNemar's test."""

    keep: float
    better: str
    worse: str
    n: int
    difference: float
    low: float
    high: float
    p: float


class Standing(BaseModel):
    """A row in the ranking of its budget: mean over seeds and sample deviation, None of a single seed."""

    keep: float
    rank: int
    row: str
    seeds: tuple[int, ...]
    clean: float
    clean_std: float | None
    robust: float
    robust_std: float | None
    doubted: bool


class Results(BaseModel):
    """results.json of an arena."""

    name: str
    recipe: str
    threat: dict[str, Any]
    attacks: dict[str, str]
    measured: tuple[Result, ...]
    failed: tuple[Failure, ...]
    unfinished: int
    ranking: tuple[Standing, ...]
    neighbours: tuple[Neighbours, ...]
    environment: dict[str, Any]


def collect(grid: Grid, cells: Sequence[Cell], folder: Path) -> Results:
    """What the finished cells say; robust is right as they are and under every attack."""
    done = [cell for cell in cells if is_finished(cell, folder)]
    measured = [_result(cell, folder) for cell in done]
    failed = [
        Failure(row=cell.row, keep=cell.keep, seed=cell.seed, reason=read_json(path)["reason"])
        for cell in cells
        if (path := folder / cell.folder / FAILED).exists()
    ]
    ranking = [standing for keep in grid.keeps for standing in _ranked(keep, measured)]
    told = read_json(folder / done[0].folder / EVALUATION / "results.json", dict[str, Any]) if done else {}
    return Results(
        name=grid.name,
        recipe=grid.recipe,
        threat=told.get("threat", {}),
        attacks=told.get("attacks", {}),
        measured=tuple(measured),
        failed=tuple(failed),
        unfinished=len(cells) - len(done) - len(failed),
        ranking=tuple(ranking),
        neighbours=tuple(_neighbours(ranking, measured, folder)),
        environment=environment(torch.device("cpu")),
    )


def _result(cell: Cell, folder: Path) -> Result:
    run, recipe = Run(folder / cell.folder), cell.recipe
    stages = plan(recipe.stages)
    row = read_models(run.at(EVALUATION) / "results.json")[stages[-1].network]
    manifest = read_export(run.at(EXPORT) / "manifest.json")
    cut = [stage for stage in stages if stage.kind == "prune"][-1]
    shared = read_allocation(run.at(cut.folder) / "allocation.json")
    markers = {stage: run.done(stage.folder) or {} for stage in stages}
    cells = {name: value for name, value in row.items() if isinstance(value, Mapping)}
    return Result(
        row=cell.row,
        method=shared.method,
        keep=cell.keep,
        seed=cell.seed,
        folder=cell.folder,
        accuracies={name: Share.model_validate(value) for name, value in cells.items()},
        n=cells["worst"]["n"],
        kept=_nonzeros(run.at(EXPORT) / manifest.file, manifest.sites),
        total=row["total"],
        macs=row["macs"],
        total_macs=row["total_macs"],
        budget=shared.budget,
        of=shared.of,
        bytes=manifest.bytes,
        package_bytes=manifest.package.bytes if manifest.package else None,
        shares={site.name: site.share for site in shared.sites},
        seconds=sum(done.get("seconds") or 0.0 for done in markers.values()),
        forwards=sum(forwards(recipe, stage, done.get("steps") or 0) for stage, done in markers.items() if done),
        notes=tuple(note for done in markers.values() for note in done.get("notes", ())),
    )


def _nonzeros(path: Path, sites: Mapping[str, Any]) -> int:
    tensors = load_file(path)
    return sum(int(numpy.count_nonzero(tensors[name])) for name in sites if name in tensors)


def _ranked(keep: float, measured: Sequence[Result]) -> Iterator[Standing]:
    """Rows by mean robust accuracy over seeds, then clean; equal ones share no rank."""
    rows: dict[str, list[Result]] = {}
    for result in measured:
        if result.keep == keep:
            rows.setdefault(result.row, []).append(result)

    def means(results: Sequence[Result]) -> tuple[float, float]:
        robust, clean = (
            sum(result.accuracies[name].accuracy for result in results) / len(results) for name in ("worst", "clean")
        )
        return robust, clean

    for rank, (row, results) in enumerate(sorted(rows.items(), key=lambda item: means(item[1]), reverse=True), 1):
        robust, clean = means(results)
        spreads = {
            name: spread([result.accuracies[name].accuracy for result in results]).std if len(results) > 1 else None
            for name in ("worst", "clean")
        }
        yield Standing(
            keep=keep,
            rank=rank,
            row=row,
            seeds=tuple(result.seed for result in results),
            clean=clean,
            clean_std=spreads["clean"],
            robust=robust,
            robust_std=spreads["worst"],
            doubted=any(result.accuracies["worst"].doubts for result in results),
        )


def _neighbours(ranking: Sequence[Standing], measured: Sequence[Result], folder: Path) -> Iterator[Neighbours]:
    by = {(result.keep, result.row, result.seed): result for result in measured}
    for better, worse in pairwise(ranking):
        seeds = [seed for seed in better.seeds if seed in worse.seeds]
        if better.keep != worse.keep or not seeds:
            continue
        first, second = (
            torch.cat([_flags(folder, by[one.keep, one.row, seed]) for seed in seeds]) for one in (better, worse)
        )
        found = mcnemar(first, second)
        yield Neighbours(
            keep=better.keep,
            better=better.row,
            worse=worse.row,
            n=found.n,
            difference=found.difference,
            low=found.low,
            high=found.high,
            p=found.p,
        )


def _flags(folder: Path, result: Result) -> Tensor:
    records = folder / result.folder / EVALUATION
    last = list(read_models(records / "results.json"))[-1]
    return flags_of(records / last)["worst"]


def as_csv(results: Results) -> str:
    """A line for each finished cell; shares in [0, 1]."""
    out = io.StringIO()
    measures = list(dict.fromkeys(name for result in results.measured for name in result.accuracies))
    plain = ("row", "method", "keep", "seed", "n", "kept", "total", "macs", "total_macs", "bytes", "package_bytes")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*plain, *measures, "seconds", "forwards"])
    for result in results.measured:
        values = [result.accuracies[name].accuracy if name in result.accuracies else "" for name in measures]
        writer.writerow([*(getattr(result, name) for name in plain), *values, result.seconds, result.forwards])
    return out.getvalue()


def write_results(results: Results, folder: Path) -> None:
    """results.json and results.csv in the arena's folder."""
    write_json(folder / RESULTS, results.model_dump(mode="json"))
